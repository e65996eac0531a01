"""Where candidates are evaluated: in this process, in others on this machine, on a Ray cluster.

One executor a module; its name here makes it a param's value.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from spacewarps.search.executors.base import Executor, ExecutorError
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute

#: The module and the class of each. One is imported when it is chosen, as what it needs may be an extra of its name.
EXECUTORS = {
    "inline": ("inline", "InlineExecutor"),
    "processes": ("processes", "ProcessesExecutor"),
    "ray": ("ray_cluster", "RayExecutor"),
}


def make_executor(
    name: str, train: Space_Galaxi, validation: Space_Galaxi, compute: Compute, settings: Mapping[str, Any]
) -> Executor:
    """Return the executor called ``name``.

    Args:
        name: one of :data:`EXECUTORS`.
        train: the samples to learn from, with their augmentation.
        validation: the samples to score on.
        compute: what is computed with.
        settings: those of the section ``search`` of ``params.yaml``; each executor takes what it knows.

    Raises:
        ExecutorError: what it needs is not installed.
    """
    module, executor = EXECUTORS[name]
    try:
        found = getattr(importlib.import_module(f"{__name__}.{module}"), executor)
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"search.executor is {name}, but {error.name} is not installed; install the project with its extra: "
            f"pip install '.[{name}]'"
        ) from None
    made: Executor = found.from_settings(train, validation, compute, settings)
    return made
