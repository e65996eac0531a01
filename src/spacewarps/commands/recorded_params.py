"""Whether results are those of ``params.yaml`` as it is now: DVC records in ``dvc.lock`` what each stage ran with."""

from collections.abc import Mapping
from typing import Any

from spacewarps.commands.one_piece import doubt_of
from spacewarps.commands.revisions import WORKSPACE, Revision
from spacewarps.params import Params
from spacewarps.reading import read_bytes
from spacewarps.settings import as_values, shown
from spacewarps.stages.param_values import NO_VALUE, differences, value_of
from spacewarps.tracking.lock_file import LOCK, read_lock
from spacewarps.yaml_params import MAX_BYTES

_NAMED = 3


def note_on_params(params: Params, stage: str) -> str | None:
    """Return in one line how ``params`` differ from those that the results of ``stage`` are of; nothing if they do not.

    Only the stages that led to these results count. If ``dvc.lock`` does not tell, the line says so, and which
    result is of something else where they are not of one run.
    """
    try:
        stages = read_lock(read_bytes(LOCK, at_most=MAX_BYTES).decode("utf-8")).led_to(stage)
    except OSError as error:
        return _unknown(error.strerror or str(error))
    except ValueError as error:
        return _unknown(f"{error!s:.200}")
    if doubt := doubt_of(Revision(WORKSPACE), stages):
        return f"{doubt}; run `dvc repro`"
    values = as_values(params)
    found: dict[str, tuple[Any, Any]] = {}
    for each in stages.values():
        for name, then in each.params.get("params.yaml", {}).items():
            for param, now_and_then in differences(name, value_of(values, name), then):
                found.setdefault(param, now_and_then)
    return _told(found) if found else None


def _unknown(why: str) -> str:
    return f"{LOCK} does not tell whether params.yaml has changed since ({why})"


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
