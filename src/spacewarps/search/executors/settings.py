"""The executors by name, and the settings of each: apart from the executors, which need torch or an extra."""

from dataclasses import field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, Tag

from spacewarps.settings import settings

# The names never reach a user.
_WORD, _NUMBER = "<a word>", "<a number>"


def _word_or_number(value: Any) -> str:
    return _WORD if isinstance(value, str) else _NUMBER


Workers = Annotated[
    Annotated[Literal["auto"], Tag(_WORD)] | Annotated[int, Field(ge=1, le=4096), Tag(_NUMBER)],
    Discriminator(_word_or_number),
]


@settings
class InlineSettings:
    """There is nothing to set."""


@settings
class ProcessesSettings:
    """How many processes there are.

    Args:
        workers: ``auto``: as many as the cores allow, but at most eight for each accelerator.

    Raises:
        SettingsError: it is out of range.
    """

    workers: Workers = "auto"


@settings
class RayCluster:
    """The Ray cluster that candidates run on.

    Args:
        address: ``local`` starts a cluster on this machine; ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT`` joins one.
        gpu_share: of a GPU for each job, where the device is CUDA.

    Raises:
        SettingsError: an argument is out of range.
    """

    address: Annotated[str, Field(min_length=1)] = "local"
    gpu_share: Annotated[float, Field(gt=0, le=1)] = 1.0


@settings
class RaySettings:
    """Which cluster, and how much of it.

    Args:
        workers: how many jobs run at once; ``auto``: as many as there is room for.
        ray: the cluster.

    Raises:
        SettingsError: an argument is out of range.
    """

    workers: Workers = "auto"
    ray: RayCluster = field(default_factory=RayCluster)


class Registered(NamedTuple):
    """Where an executor is: imported when it is chosen, as what it needs may be an extra of its name."""

    module: str
    executor: str
    settings: type[Any]


EXECUTORS = {
    "inline": Registered("inline", "InlineExecutor", InlineSettings),
    "processes": Registered("processes", "ProcessesExecutor", ProcessesSettings),
    "ray": Registered("ray_cluster", "RayExecutor", RaySettings),
}
