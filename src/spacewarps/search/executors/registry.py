"""The executors by name, each made with the settings of its own."""

import importlib
from collections.abc import Sequence

from spacewarps.errors import extra_missing
from spacewarps.search.executors.base import Executor, ExecutorError
from spacewarps.search.executors.settings import EXECUTORS
from spacewarps.search.folds import Fold
from spacewarps.settings import part_of
from spacewarps.training.compute import Compute


def make_executor(name: str, folds: Sequence[Fold], compute: Compute, settings: object) -> Executor:
    """Return the executor called ``name``.

    Args:
        name: one of :data:`EXECUTORS`.
        folds: the data that it evaluates on.
        compute: what is computed with.
        settings: has those of the executor as attributes, beside others.

    Raises:
        ExecutorError: what it needs is not installed.
    """
    registered = EXECUTORS[name]
    try:
        found = getattr(importlib.import_module(f"{__package__}.{registered.module}"), registered.executor)
    except ModuleNotFoundError as error:
        raise ExecutorError(f"`executor` is {name}, but {extra_missing(name, str(error.name))}") from None
    made: Executor = found.from_settings(folds, compute, part_of(registered.settings, settings))
    return made
