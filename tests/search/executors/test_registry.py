import importlib
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest

from spacewarps.search.executors.base import Executor, ExecutorError
from spacewarps.search.executors.registry import make_executor
from spacewarps.search.executors.settings import EXECUTORS
from spacewarps.search.folds import Fold
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_is_registered_with_settings_that_are_params(name: str) -> None:
    registered = EXECUTORS[name]
    module = importlib.import_module(f"spacewarps.search.executors.{registered.module}")
    assert issubclass(getattr(module, registered.executor), Executor)
    assert {field.name for field in fields(registered.settings)} <= {"workers", "ray"}


def test_an_executor_takes_of_the_settings_what_it_knows(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute
) -> None:
    folds = [Fold(train_data, validation_data)]
    settings = SimpleNamespace(workers=3, ray=None, max_layers=4)
    with make_executor("processes", folds, compute, settings) as executor:
        assert executor.workers == 3
    with make_executor("inline", folds, compute, settings) as executor:
        assert executor.workers == 1


def test_an_executor_whose_extra_is_not_installed_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "spacewarps.search.executors.ray_cluster", raising=False)
    with pytest.raises(
        ExecutorError, match=r"`executor` is ray, but the extra `ray` is not installed \(ray\): .*'spacewarps\[ray\]'"
    ):
        make_executor("ray", None, None, None)  # type: ignore[arg-type]
