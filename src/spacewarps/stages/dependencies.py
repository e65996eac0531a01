"""What DVC records of a stage beside its outputs: params, code and inputs; and whether they are what it began with.

DVC reads them when the stage has ended. What was edited meanwhile would stand in ``dvc.lock`` beside a result that it
did not make.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from spacewarps.errors import DependenciesChangedError, ParamsError
from spacewarps.params import Params, load_params
from spacewarps.provenance import files_that_decide
from spacewarps.reading import check_file, sha256_of
from spacewarps.recorded_code import CODE
from spacewarps.settings import as_values, flatten, shown
from spacewarps.stages.param_values import NO_VALUE, differences, value_of
from spacewarps.tracking.pipeline_file import ListedStage, listed_stages
from spacewarps.yaml_params import NotYamlError, read_yaml_file

_PARAMS = Path("params.yaml")
_SOURCES = Path("src")

# The SHA-256 of code, the size in bytes and the time of change in ns of anything else; None where there is no file.
_State = str | tuple[int, int] | None


@dataclass(frozen=True)
class Dependencies:
    """Params, code and inputs of a stage as they were at one moment.

    Attributes:
        names: for each file of params, those that count; None where all do.
        values: what these files held.
        places: files and folders of code and inputs.
        states: what tells whether a file in these places is the same.
    """

    names: Mapping[Path, list[str] | None]
    values: Mapping[Path, Any]
    places: list[Path]
    states: Mapping[str, _State]

    @classmethod
    def of(cls, stage: str, params: Params) -> Self:
        """Return what ``stage`` depends on by ``dvc.yaml``, as it is now; if that has no such stage, all ``params``."""
        values: dict[Path, Any] = {_PARAMS: as_values(params)}
        unlisted = ListedStage([], [], {_PARAMS: None})
        listed = listed_stages(flatten(values[_PARAMS])).get(stage, unlisted)
        names, places = listed.params, listed.inputs
        for file in names:
            with suppress(ParamsError):
                values.setdefault(file, _read(file))
        if CODE in names:
            # The project holds no code; this is the installed one's.
            places = [*places, *files_that_decide(f"stages.{stage}")]
        return cls({file: names[file] for file in names if file in values}, values, places, _states(places))

    def check_unchanged(self, *, is_written: bool = False) -> None:
        """Refuse to go on if any of it is no longer the same.

        Args:
            is_written: whether the result is in its place by now, where DVC would find it.

        Raises:
            DependenciesChangedError: naming the first that has changed.
        """
        changes = [*self._changed_params(), *self._changed_files()]
        if changes:
            others = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
            what_now = (
                "it is written, but must not be recorded; run again as it is, or put back what was there before"
                if is_written
                else "nothing is written; put back what was there, or run again as it is"
            )
            raise DependenciesChangedError(
                f"{changes[0]}{others}, so DVC would record what did not make the result: {what_now}"
            )

    def _changed_params(self) -> Iterator[str]:
        for file, names in self.names.items():
            then = self.values[file]
            try:
                now = _read(file)
            except ParamsError as error:
                yield f"{file} was valid when this began and is not now ({str(error).removeprefix(f'{file}: ')})"
                continue
            of_file = "" if file == _PARAMS else f"{file}: "
            both = [("", now, then)] if names is None else [(n, value_of(now, n), value_of(then, n)) for n in names]
            for param, values in (each for one in both for each in differences(*one)):
                is_now, was = ("not there" if value is NO_VALUE else shown(value) for value in values)
                yield f"{of_file}{param.removeprefix('.')} was {was} when this began and is {is_now} now"

    def _changed_files(self) -> Iterator[str]:
        then, now = self.states, _states(self.places)
        for file in sorted(then.keys() | now.keys()):
            before, after = then.get(file), now.get(file)
            if before != after:
                how = "added" if before is None else "removed" if after is None else "changed"
                yield f"{file} has been {how} since this began"


def _read(file: Path) -> Any:
    """Return the values of a file of params.

    Raises:
        ParamsError: it cannot be read.
    """
    if file == _PARAMS:
        return as_values(load_params(file))
    try:
        return read_yaml_file(file)
    except (OSError, UnicodeDecodeError, NotYamlError) as error:
        raise ParamsError(f"{file}: {error}") from None


def _states(places: Iterable[Path]) -> dict[str, _State]:
    return {file: _state(Path(file)) for place in places for file in _files(place)}


def _files(place: Path) -> Iterator[str]:
    """Yield ``place`` and all files below it; of code, the modules, as Python keeps what it compiles beside them."""
    suffix = ".py" if place.is_relative_to(_SOURCES) else ""
    yield str(place)
    for where, _, files in os.walk(place):
        yield from (str(Path(where, file)) for file in files if file.endswith(suffix))


def _state(file: Path) -> _State:
    try:
        check_file(file)
        if file.suffix == ".py":
            # It is small, and git touches files that it leaves as they are.
            return sha256_of(file)
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
