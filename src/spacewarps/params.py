"""``params.yaml`` as typed, validated objects: the only reader of that file.

Its sections are the settings of the rooms (:mod:`spacewarps.settings`): a range or a default stands there, and once.
"""

import difflib
import itertools
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import Field

from spacewarps.archives.settings import FetchSettings, PositionColumns
from spacewarps.baselines.settings import BaselineSettings
from spacewarps.errors import ParamsError
from spacewarps.evaluation.settings import BootstrapSettings, CrossvalidationSettings
from spacewarps.model.settings import Configuration
from spacewarps.search.executors.settings import EXECUTORS
from spacewarps.search.settings import SearchSettings
from spacewarps.search.strategies import STRATEGIES
from spacewarps.settings import (
    Fault,
    OneOf,
    SettingsError,
    Threads,
    settings,
    shown,
    with_fields_of,
)
from spacewarps.simulation.settings import SimulationSettings
from spacewarps.survey.settings import AugmentationSettings, SurveySettings
from spacewarps.training.settings import MAX_FOLDS, ComputeSettings, FinalSettings, Optimiser
from spacewarps.yaml_params import NotYamlError, read_yaml_file

_T = TypeVar("_T")

_MOST_TELLING = ("unknown", "wrong", "missing")


class InvalidParamsError(ParamsError):
    """Params of ``params.yaml`` are unknown, mistyped, out of range or missing.

    Args:
        path: the file.
        faults: at least one, the most telling first; the message is the first, and ``lines`` has a line for each.
    """

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        self._arguments = path, faults
        self.lines = [f"{path}: {fault}" for fault in faults]
        super().__init__(f"{path}: {SettingsError(faults)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidParamsError, self._arguments


# No path holds one.
_WITHOUT_NUL = r"^[^\x00]*$"
# Tables hold it as a 64-bit integer.
_HIGHEST_SEED = 2**63 - 1
# What stages write that are no part of the pipeline, or its first, and others read as a survey.
_WRITTEN_FOR_OTHERS = {"demo": ("catalog", "images"), "fetched": ("images",)}
# What a project cannot do without, and what DVC would delete for a stage that names it as its output.
_PROJECTS_OWN = (".dvc", ".git", ".venv", "benchmarks", "docs", "mlartifacts", "src", "tests")


def _resolved(path: str | Path) -> Path:
    """Return ``path`` without links and detours: as they are spelt, two ways to one folder can look apart."""
    return Path(os.path.realpath(path))


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


@settings
class PathsParams:
    """Where the stages write, relative to the project."""

    demo: str
    prepared: str
    search: str
    final: str
    predictions: str
    fetched: str
    reports: str
    journal: str

    def __post_init__(self) -> None:
        # A stage replaces its folder as a whole, so the folder must be the stage's own.
        places = self.by_name()
        for name, place in places.items():
            if place.is_absolute() or ".." in place.parts or not place.parts or not str(place).isprintable():
                raise ValueError(f"{name} must name a folder inside the project, but got {str(place)!r:.80}")
        for name, place in places.items():
            for other, folder in places.items():
                if name != other and _resolved(place).is_relative_to(_resolved(folder)):
                    raise ValueError(f"{name} and {other} must be folders apart, but got {place} and {folder}")
            for own in map(Path, _PROJECTS_OWN):
                if _overlap(_resolved(place), _resolved(own)):
                    raise ValueError(f"{name} must keep away from {own}, which no stage may write, but got {place}")

    def by_name(self) -> dict[str, Path]:
        """Return each of them."""
        return {field.name: Path(getattr(self, field.name)) for field in fields(self)}


@settings
class DataParams(SurveySettings):
    """The survey, and how it is cleaned and split."""

    catalog: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)] = "data/demo/catalog"
    images: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)] = "data/demo/images"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.columns.label is None:
            raise ValueError("columns.label must be the name of a column, as a survey to learn from needs labels")
        if not self.split.test:
            raise ValueError("split.test must be above 0, as the stage evaluate measures on that split")


@settings
@with_fields_of(*STRATEGIES.values(), *(registered.settings for registered in EXECUTORS.values()))
class SearchParams(SearchSettings):
    """The search, with the settings of each strategy and each executor."""

    folds: Annotated[int, Field(ge=1, le=MAX_FOLDS)] = 3
    threads: Threads = 1
    strategy: Annotated[str, OneOf(STRATEGIES)] = "greedy"
    executor: Annotated[str, OneOf(EXECUTORS)] = "processes"
    checkpoints: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_folds(self.folds)


@settings
class PredictionParams:
    """A survey that the final network is asked about, and the table that the answers go to."""

    catalog: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)] = "data/demo/catalog"
    images: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)] = "data/demo/images"
    id: Annotated[str, Field(min_length=1)] = "id"
    table: Literal["csv", "parquet"] = "csv"


@settings
class FetchParams(FetchSettings):
    """A catalogue whose stamps are fetched, and the archive that has them."""

    catalog: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)] = "data/demo/catalog"
    columns: PositionColumns = PositionColumns()


@settings
class EvaluationParams(BootstrapSettings):
    """How the test result gets its intervals, and what it is compared with."""

    baselines: BaselineSettings = BaselineSettings()
    row_split: bool = False


@settings
class Params:
    """All of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0, le=_HIGHEST_SEED)]
    paths: PathsParams
    compute: ComputeSettings
    simulate: SimulationSettings
    data: DataParams
    augment: AugmentationSettings
    model: Configuration
    optimiser: Optimiser
    search: SearchParams
    train: FinalSettings
    crossvalidate: CrossvalidationSettings
    evaluate: EvaluationParams
    predict: PredictionParams
    fetch: FetchParams

    def __post_init__(self) -> None:
        if self.search.folds > 1 and (self.train.data, self.train.start) == ("train", "warm"):
            raise ValueError(
                f"train.start is warm, but search.folds is {self.search.folds}, so the search's weights have seen "
                "samples of the validation split, by which the final training chooses its epoch; set train.start to "
                "fresh, or train.data to train_and_validation or folds"
            )
        if self.seed + self.crossvalidate.repeats - 1 > _HIGHEST_SEED:
            raise ValueError(
                f"seed is {self.seed} and crossvalidate.repeats is {self.crossvalidate.repeats}, but the seed of the "
                "last repeat, seed + repeats - 1, must be at most 2**63 - 1; lower one of them"
            )
        for name, place in self.paths.by_name().items():
            folder = _resolved(place)
            for section, param in (
                *itertools.product(("data", "predict"), ("catalog", "images")),
                ("fetch", "catalog"),
            ):
                survey = _resolved(getattr(getattr(self, section), param))
                if param in _WRITTEN_FOR_OTHERS.get(name, ()) and survey == folder / param:
                    continue
                if survey.is_relative_to(folder):
                    raise ValueError(
                        f"paths.{name} is {place}, a folder that a stage replaces, and {section}.{param} lies in it; "
                        "choose another"
                    )
                if folder.is_relative_to(survey):
                    raise ValueError(
                        f"paths.{name} is {place}, a folder that a stage writes, but it lies in {section}.{param}, "
                        f"{survey}; keep the survey in a folder of its own"
                    )


def load_params(path: Path) -> Params:
    """Read and check ``params.yaml``, which must hold every param.

    Raises:
        InvalidParamsError: naming the file, the params at fault, what was found and what is allowed.
        ParamsError: the file cannot be read, or holds no sections.
    """
    try:
        values = read_yaml_file(path)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: cannot be read ({error})") from None
    except NotYamlError as error:
        raise ParamsError(f"{path}: not valid YAML: {error!s:.300}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: must hold sections with names, but it holds {shown(values)}")
    faults: list[Fault] = []
    params = _made(Params, values, "", faults)
    if params is None:
        raise InvalidParamsError(path, sorted(faults, key=lambda fault: _MOST_TELLING.index(fault.kind)))
    return params


def _made(kind: type[_T], values: Mapping[Any, Any], section: str, faults: list[Fault]) -> _T | None:
    """Return the settings of ``kind`` with ``values``; nothing if there are faults, which are added to ``faults``."""
    kinds = get_type_hints(kind)
    meant = {name: _nearest(f"{name!s:.100}", list(kinds)) for name in values if name not in kinds}
    for name, nearest in meant.items():
        advice = f"the names here are {', '.join(kinds)}"
        if nearest:
            advice = f"did you mean {'.'.join(filter(None, [section, nearest]))}?"
        faults.append(Fault(str(name), f" is not a parameter; {advice}", "unknown").below(section))
    arguments: dict[str, Any] = {}
    for name, one in kinds.items():
        place = f"{section}.{name}" if section else name
        if name not in values:
            # It is there, but misspelt: that is one fault, and not two.
            if name not in meant.values():
                faults.append(Fault(place, " is missing; add it", "missing"))
        elif not is_dataclass(one):
            arguments[name] = values[name]
        elif not isinstance(values[name], dict):
            faults.append(Fault(place, f" is {shown(values[name])}, but it should be a section with names"))
        elif (below := _made(one, values[name], place, faults)) is not None:  # type: ignore[arg-type]
            arguments[name] = below
    complete = arguments.keys() == kinds.keys()
    try:
        made = kind(**arguments)
    except SettingsError as error:
        # Where some are absent, only what is wrong with one of the others is known.
        told = [fault for fault in error.faults if complete or fault.argument.split(".")[0] in arguments]
        faults += [fault.below(section) for fault in told]
        return None
    return made if arguments.keys() == values.keys() and complete else None


def _nearest(name: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)
