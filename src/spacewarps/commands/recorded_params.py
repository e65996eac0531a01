"""Whether results are those of ``params.yaml`` as it is now: DVC records in ``dvc.lock`` what each stage ran with."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from spacewarps.params import Params
from spacewarps.reading import first_fault
from spacewarps.settings import as_values, shown
from spacewarps.stages.param_values import NO_VALUE, differences, value_of
from spacewarps.yaml_params import NotYamlError, read_yaml_file

LOCK = Path("dvc.lock")

_NAMED = 3


class _Place(BaseModel):
    path: PurePosixPath

    def overlaps(self, other: "_Place") -> bool:
        return self.path.is_relative_to(other.path) or other.path.is_relative_to(self.path)


class _Stage(BaseModel):
    params: dict[str, dict[str, Any]] = {}
    deps: list[_Place] = []
    outs: list[_Place] = []

    def needs(self, other: "_Stage") -> bool:
        return any(dep.overlaps(out) for dep in self.deps for out in other.outs)


class _Lock(BaseModel):
    stages: dict[str, _Stage]


def note_on_params(params: Params, stage: str) -> str | None:
    """Return in one line how ``params`` differ from those that the results of ``stage`` are of; nothing if they do not.

    Only the stages that led to these results count. If ``dvc.lock`` does not tell, the line says so.
    """
    try:
        lock = _Lock.model_validate(read_yaml_file(LOCK))
    except OSError as error:
        return _unknown(error.strerror or str(error))
    except ValidationError as error:
        return _unknown(first_fault(error))
    except (UnicodeDecodeError, NotYamlError) as error:
        return _unknown(f"{error!s:.200}")
    if stage not in lock.stages:
        return _unknown(f"it holds no stage {stage}")
    values = as_values(params)
    found: dict[str, tuple[Any, Any]] = {}
    for each in _led_to(stage, lock.stages):
        for name, then in each.params.get("params.yaml", {}).items():
            for param, now_and_then in differences(name, value_of(values, name), then):
                found.setdefault(param, now_and_then)
    return _told(found) if found else None


def _unknown(why: str) -> str:
    return f"{LOCK} does not tell whether params.yaml has changed since ({why})"


def _led_to(name: str, stages: Mapping[str, _Stage]) -> list[_Stage]:
    """Return the stages that the one called ``name`` needs, directly or not, and that one, in the order of the lock."""
    found, waiting = set(), [name]
    while waiting:
        now = waiting.pop()
        found.add(now)
        waiting += [other for other in stages if other not in found and stages[now].needs(stages[other])]
    return [stage for name, stage in stages.items() if name in found]


def _told(found: Mapping[str, tuple[Any, Any]]) -> str:
    (first, (now, then)), *others = found.items()
    are = "without it" if then is NO_VALUE else f"of {shown(then)}"
    told = [f"{first} {_is(now)}, but these results are {are}"]
    for name, (now, then) in others[: _NAMED - 1]:
        told.append(f"{name} {_is(now)}" if NO_VALUE in (now, then) else f"{name} {_is(now)}, not {shown(then)}")
    if len(found) > _NAMED:
        told.append(f"and {len(found) - _NAMED} more")
    return "; ".join([*told, "`dvc repro` brings them up to date"])


def _is(now: Any) -> str:
    return "is not there" if now is NO_VALUE else f"is {shown(now)}"
