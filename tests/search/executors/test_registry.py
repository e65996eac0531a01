import sys
from typing import get_args

import pytest

from spacewarps.params import SearchParams
from spacewarps.search.executors import EXECUTORS, make_executor
from spacewarps.search.executors.base import ExecutorError


def test_every_executor_is_a_value_of_its_param() -> None:
    assert get_args(SearchParams.model_fields["executor"].annotation) == tuple(EXECUTORS)


def test_an_executor_whose_extra_is_not_installed_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "spacewarps.search.executors.ray_cluster", raising=False)
    with pytest.raises(
        ExecutorError, match=r"search.executor is ray, but ray is not installed; .*pip install '.\[ray\]'"
    ):
        make_executor("ray", None, None, None, {})  # type: ignore[arg-type]
