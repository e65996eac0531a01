"""``params.yaml`` as typed, validated objects: the only reader of that file."""

import difflib
import os
import reprlib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from spacewarps.errors import ParamsError, SurveyError
from spacewarps.reading import read_bytes
from spacewarps.simulation.limits import MAX_SAMPLES, MIN_SAMPLES
from spacewarps.survey.columns import Columns
from spacewarps.yaml_params import MAX_BYTES, NotYamlError, read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
# As many as model/blocks.py gives such a block; not read from there, as reading params should not wait for torch.
INCEPTION_BRANCHES = 4

# No path holds one.
_WITHOUT_NUL = r"^[^\x00]*$"
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000)]
Channels = Annotated[int, Field(ge=1, le=4096)]


class Section(BaseModel):
    """A section of ``params.yaml``: no unknown names, no silent conversion of types, no change once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


# What a project cannot do without, and what DVC would delete for a stage that names it as its output.
_PROJECTS_OWN = (".dvc", ".git", ".venv", "benchmarks", "docs", "mlartifacts", "src", "tests")


def _resolved(path: str | Path) -> Path:
    """Return ``path`` without links and detours: as they are spelt, two ways to one folder can look apart."""
    return Path(os.path.realpath(path))


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


class PathsParams(Section):
    """Where the stages write, relative to the project."""

    demo: str
    prepared: str
    search: str
    final: str
    reports: str
    journal: str

    @model_validator(mode="after")
    def _stay_apart(self) -> Self:
        # A stage replaces its folder as a whole, so the folder must be the stage's own.
        places = {name: Path(value) for name, value in self.model_dump().items()}
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
        return self


class ComputeParams(Section):
    """What the numbers are computed with."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Annotated[int, Field(ge=1, le=1024)]


class SimulateParams(Section):
    """The demo survey."""

    n_samples: Annotated[int, Field(ge=MIN_SAMPLES, le=MAX_SAMPLES)]


class ColumnsParams(Section):
    """The catalogue's names for what every survey has; no ``ra`` and ``dec`` where it has no positions."""

    id: str
    label: str
    ra: str | None
    dec: str | None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        try:
            Columns(**self.model_dump())
        except SurveyError as error:
            raise ValueError(str(error)) from None
        return self


class SplitParams(Section):
    """Shares of the sources; together they are 1."""

    train: Annotated[float, Field(gt=0, lt=1)]
    validation: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test must add up to 1, but they add up to {total:g}")
        return self


class DataParams(Section):
    """The survey, and how it is cleaned and split."""

    catalog: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)]
    images: Annotated[str, Field(min_length=1, pattern=_WITHOUT_NUL)]
    columns: ColumnsParams
    features: list[str]
    missing_codes: dict[str, Annotated[list[float], Field(min_length=1)]]
    group_radius_arcsec: Annotated[float, Field(ge=0, le=3600)]
    label_conflicts: Literal["keep", "drop"]
    fraction: Annotated[float, Field(gt=0, le=1)]
    split: SplitParams
    max_bad_fraction: Share

    @model_validator(mode="after")
    def _features_differ(self) -> Self:
        if len(set(self.features)) != len(self.features):
            raise ValueError(f"features must differ from each other, but got {self.features}")
        if self.columns.id in self.features or self.columns.label in self.features:
            raise ValueError(f"features must not hold the id or the label, but got {self.features}")
        stray = next((name for name in self.missing_codes if name not in self.features), None)
        if stray is not None:
            raise ValueError(f"missing_codes must name features, but {stray!r:.80} is none of {self.features}")
        return self


class AugmentParams(Section):
    """The strength of each kind of augmentation; 0 switches it off."""

    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, le=0.5)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear_degrees: Annotated[float, Field(ge=0, le=45)]
    flip: Share
    brightness: Annotated[float, Field(ge=0, le=10)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    colour: Annotated[float, Field(ge=0, lt=1)]
    noise: Annotated[float, Field(ge=0, le=10)]


class ModelParams(Section):
    """What every network of the search has in common."""

    dropout: Annotated[float, Field(ge=0, lt=1)]
    embedding: Annotated[int, Field(ge=1, le=65536)]
    head_grid: Annotated[int, Field(ge=1, le=256)]


class OptimiserParams(Section):
    """How weights are learned, in the search and after it."""

    batch_size: Annotated[int, Field(ge=2, le=65536)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


class WarmStartParams(Section):
    """How a candidate's first weights come from the last winner's."""

    mode: Literal["none", "previous", "siblings"]
    scale: Annotated[float, Field(gt=0, le=10)]
    jitter: Annotated[float, Field(ge=0, le=10)]


_ONE_LIST, _LIST_A_STEP, _WORD, _NUMBER = "one list", "one list a step", "a word", "a number"
_MEMBERS_OF_UNIONS = (_ONE_LIST, _LIST_A_STEP, _WORD, _NUMBER)


def _shape_of_candidates(value: Any) -> str:
    return _LIST_A_STEP if isinstance(value, list) and value and isinstance(value[0], list) else _ONE_LIST


def _word_or_number(value: Any) -> str:
    return _WORD if isinstance(value, str) else _NUMBER


class RayParams(Section):
    """The Ray cluster that candidates run on, where ``search.executor`` is ``ray``."""

    address: Annotated[str, Field(min_length=1)]
    gpu_share: Annotated[float, Field(gt=0, le=1)]


class SearchParams(Section):
    """The progressive architecture search."""

    # More halvings than any stamp has; a bound, so that a slip of the finger does not fill memory.
    max_layers: Annotated[int, Field(ge=1, le=64)]
    # Told apart by their first element, so that a fault is described for the shape that was meant.
    k_candidates: Annotated[
        Annotated[list[Channels], Tag(_ONE_LIST)] | Annotated[list[list[Channels]], Tag(_LIST_A_STEP)],
        Discriminator(_shape_of_candidates),
    ]
    block_kinds: Annotated[list[Literal["conv", "residual", "separable", "inception"]], Field(min_length=1)]
    kernel_sizes: Annotated[list[Annotated[int, Field(ge=1, le=15)]], Field(min_length=1)]
    epochs_per_eval: PositiveInt
    min_delta: Annotated[float, Field(ge=0, lt=1)]
    strategy: Literal["greedy", "beam", "pnas"]
    beam_width: Annotated[int, Field(ge=1, le=64)]
    trained_per_step: PositiveInt
    halving: Annotated[int, Field(ge=0, le=16)]
    warm_start: WarmStartParams
    trains: Literal["all", "block"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    executor: Literal["inline", "processes", "ray"]
    workers: Annotated[
        Annotated[Literal["auto"], Tag(_WORD)] | Annotated[int, Field(ge=1, le=4096), Tag(_NUMBER)],
        Discriminator(_word_or_number),
    ]
    checkpoints: bool
    ray: RayParams

    @model_validator(mode="after")
    def _one_list_a_step(self) -> Self:
        steps = self.k_candidates
        if not steps or any(step == [] for step in steps):
            raise ValueError("k_candidates must not be empty")
        if isinstance(steps[0], list) and len(steps) < self.max_layers:
            raise ValueError(
                f"k_candidates gives {len(steps)} lists for max_layers={self.max_layers} steps; "
                "give one list for all steps, or one list a step"
            )
        for ks in self.candidates_by_step():
            if len(set(ks)) != len(ks):
                raise ValueError(f"k_candidates of one step must differ from each other, but got {ks}")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name in ("block_kinds", "kernel_sizes"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must differ from each other, but got {values}")
        even = [size for size in self.kernel_sizes if size % 2 == 0]
        if even:
            raise ValueError(f"kernel_sizes must be odd, so that a map keeps its size, but got {even[0]}")
        smallest = min(k for ks in self.candidates_by_step() for k in ks)
        if "inception" in self.block_kinds and smallest < INCEPTION_BRANCHES:
            raise ValueError(
                f"an inception block shares its k among {INCEPTION_BRANCHES} branches, but k_candidates has "
                f"{smallest}; raise it to {INCEPTION_BRANCHES} or more, or take inception out of block_kinds"
            )
        if self.halving and self.warm_start.mode == "siblings":
            raise ValueError(
                "halving stops candidates early that others would be widened from; "
                "set halving to 0, or warm_start.mode to previous"
            )
        if self.trains == "block" and self.warm_start.mode == "none":
            raise ValueError(
                "trains is block, which leaves the trunk as it was trained, but warm_start.mode is none, which draws "
                "it anew; set warm_start.mode to previous, or trains to all"
            )
        return self

    def candidates_by_step(self) -> list[list[int]]:
        """Return the ``k`` on trial at each step, ``max_layers`` lists."""
        return (
            [[k] if isinstance(k, int) else list(k) for k in self.k_candidates[: self.max_layers]]
            if isinstance(self.k_candidates[0], list)
            else [[k for k in self.k_candidates if isinstance(k, int)] for _ in range(self.max_layers)]
        )


class TrainParams(Section):
    """The final training."""

    start: Literal["warm", "fresh"]
    epochs: PositiveInt


class EvaluateParams(Section):
    """The bootstrap over sources that gives a metric its interval."""

    bootstrap_resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]


class Params(Section):
    """All of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    paths: PathsParams
    compute: ComputeParams
    simulate: SimulateParams
    data: DataParams
    augment: AugmentParams
    model: ModelParams
    optimiser: OptimiserParams
    search: SearchParams
    train: TrainParams
    evaluate: EvaluateParams

    @model_validator(mode="after")
    def _keep_the_survey(self) -> Self:
        for name, place in self.paths.model_dump().items():
            folder = _resolved(place)
            for param in ("catalog", "images"):
                survey = _resolved(getattr(self.data, param))
                if name == "demo" and survey == folder / param:
                    continue
                if survey.is_relative_to(folder):
                    raise ValueError(
                        f"paths.{name} is {place}, a folder that a stage replaces, and data.{param} lies in it; "
                        "choose another"
                    )
                if folder.is_relative_to(survey):
                    raise ValueError(
                        f"paths.{name} is {place}, a folder that a stage writes, but it lies in data.{param}, "
                        f"{survey}; keep the survey in a folder of its own"
                    )
        return self


def load_params(path: Path) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        ParamsError: naming the file, the first parameter at fault, what was found and what is allowed.
    """
    try:
        text = read_bytes(path, at_most=MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: cannot be read ({error})") from None
    try:
        values = read_yaml(text)
    except NotYamlError as error:
        raise ParamsError(f"{path}: not valid YAML: {error!s:.300}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: must hold sections with names, but it holds {_shown(values)}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{path}: {_describe(error)}") from None


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2


def _describe(error: ValidationError) -> str:
    """Return the most telling fault as one line, and how many others there are."""
    faults = error.errors(include_url=False)
    # A misspelt name gives two faults, one for the name that is there and one for the name that is not.
    unknown = [fault for fault in faults if fault["type"] in ("extra_forbidden", "invalid_key")]
    fault = (unknown or faults)[0]
    # The name of a union's member is no part of what the user wrote.
    names = [part for part in fault["loc"] if unknown or part not in _MEMBERS_OF_UNIONS]
    place = f"{'.'.join(str(part) for part in names) or 'params':.200}"
    if unknown:
        known = _names_beside(names[:-1])
        line = f"{place} is not a parameter; {_suggest(f'{names[-1]!s:.100}', names[:-1], known)}"
    elif fault["type"] == "missing":
        line = f"{place} is missing; add it"
    elif fault["type"] == "value_error":
        line = f"{place}: {fault['msg'].removeprefix('Value error, '):.300}"
    elif fault["type"] == "model_type":
        line = f"{place} is {_shown(fault['input'])}, but it should be a section with names"
    else:
        line = f"{place} is {_shown(fault['input'])}, but {_lower(fault['msg'])}"
        if fault["type"] == "string_type" and isinstance(fault["input"], int | float | date):
            line += "; put it in quotes"
    others = len(faults) - 1 - sum(1 for other in faults if other["type"] == "missing" and unknown)
    return line if others <= 0 else f"{line} (and {others} more)"


def _shown(value: Any) -> str:
    """Return ``value`` for a message: what is long or nested is cut before it becomes text."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        # Python gives a number of thousands of digits no text.
        return "a number of too many digits"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _names_beside(section: list[int | str]) -> list[str]:
    """Return the names that the section called ``section`` may hold."""
    model: Any = Params
    for part in section:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)


def _suggest(name: str, section: list[int | str], known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if nearest:
        return f"did you mean {'.'.join([*map(str, section), nearest[0]])}?"
    return f"the names here are {', '.join(known)}"
