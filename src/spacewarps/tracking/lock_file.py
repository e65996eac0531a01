"""What ``dvc.lock`` records of each stage: the params that it ran with, and the hashes of what it read and wrote."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from spacewarps.reading import first_fault
from spacewarps.yaml_params import NotYamlError, read_yaml

LOCK = Path("dvc.lock")

_PARAMS = "params.yaml"


class Place(BaseModel):
    """A file or a folder; ``md5`` is its hash, where DVC has one of this kind."""

    path: PurePosixPath
    md5: str = ""

    def overlaps(self, other: "Place") -> bool:
        """Say whether one of both lies in the other, or both are the same place."""
        return self.path.is_relative_to(other.path) or other.path.is_relative_to(self.path)


class LockedStage(BaseModel):
    """A stage as it last ended; ``params`` are by file, and there by their names with dots."""

    params: dict[str, dict[str, Any]] = {}
    deps: list[Place] = []
    outs: list[Place] = []

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each output, by its path."""
        return {str(out.path): out.md5 for out in self.outs}

    def needs(self, other: "LockedStage") -> bool:
        """Say whether this stage reads what the other one wrote."""
        return any(dep.overlaps(out) for dep in self.deps for out in other.outs)


class Lock(BaseModel):
    """All stages, in the order of the file."""

    stages: dict[str, LockedStage]

    @property
    def outputs(self) -> dict[str, str]:
        """The hash of each output of any stage, by its path."""
        return {path: digest for stage in self.stages.values() for path, digest in stage.hashes.items()}

    def led_to(self, name: str) -> dict[str, LockedStage]:
        """Return the stages that the one called ``name`` needs, directly or not, and that one, in order.

        Raises:
            ValueError: there is no such stage; the message is one line.
        """
        if name not in self.stages:
            raise ValueError(f"it holds no stage {name}")
        found, waiting = set(), [name]
        while waiting:
            now = waiting.pop()
            found.add(now)
            waiting += [
                other for other in self.stages if other not in found and self.stages[now].needs(self.stages[other])
            ]
        return {name: stage for name, stage in self.stages.items() if name in found}


def read_lock(text: str) -> Lock:
    """Return what a ``dvc.lock`` holds.

    Raises:
        ValueError: it is damaged; the message is one line.
    """
    try:
        return Lock.model_validate(read_yaml(text))
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
    except NotYamlError as error:
        raise ValueError(f"{error!s:.200}") from None


def params_of(stages: Mapping[str, LockedStage]) -> dict[str, Any]:
    """Return the params that ``stages`` ran with, each under its whole name.

    DVC records some sections as a whole, and others param by param.
    """
    return {
        name: value
        for stage in stages.values()
        for section, values in stage.params.get(_PARAMS, {}).items()
        for name, value in _leaves(section, values)
    }


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for part, below in value.items():
            yield from _leaves(f"{name}.{part}", below)
    else:
        yield name, value
