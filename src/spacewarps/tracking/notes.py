"""What MLflow is told, as notes that can wait in a file: each names its run by an id of this project's own."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from spacewarps.reading import first_fault

STAGE_TAG = "spacewarps.stage"
#: The outputs of a stage with the hashes that ``dvc.lock`` has of them, as JSON.
OUTPUTS_TAG = "spacewarps.outputs"
#: On a run that stands for a stage which was not run: the run that computed its results.
COMPUTED_TAG = "spacewarps.computed_by"
#: On the run of a pipeline: what its stages have in common, and no other run.
PIPELINE_TAG = "spacewarps.pipeline"
#: On the run of a pipeline: its network in one line.
ARCHITECTURE_TAG = "spacewarps.architecture"
#: The hash of the prepared survey, as ``dvc.lock`` has it.
DATA_TAG = "data.hash"
PARENT_TAG = "mlflow.parentRunId"
#: Which process a run belongs to.
OWNER_TAG = "spacewarps.process"
#: The id that a run has in the notes: MLflow gives ids of its own, in answers that may be lost.
RUN_TAG = "spacewarps.run"
#: In a tag, stands for the id that MLflow gives the run: only who delivers the note knows it.
OWN_ID = "{run_id}"


@dataclass(frozen=True)
class Start:
    """A run begins, or one that another stage has ended goes on.

    Args:
        run: its id in the notes.
        name: what MLflow shows.
        parent: the id in the notes of the run above it.
        tags: what stands on it, its ``RUN_TAG`` among them.
        time: in milliseconds since 1970, as MLflow counts; so are all times of notes.
        found_by: the tag whose value no other run has.
        params: what stands on it unless it has them already.
    """

    run: str
    name: str
    parent: str | None
    tags: dict[str, str]
    time: int
    found_by: str = RUN_TAG
    params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reused:
    """A stage that a run of the pipeline does not run, as its results are there already.

    Args:
        run: the id in the notes of the run that stands for it.
        stage: its name.
        parent: the id in the notes of the pipeline's run.
        outputs: the hash of each of its results, by its path.
        tags: what stands on the run.
        time: when this was found.
    """

    run: str
    stage: str
    parent: str
    outputs: dict[str, str]
    tags: dict[str, str]
    time: int


@dataclass(frozen=True)
class Entries:
    """Metrics (key, value, time, step), params and tags, no more than MLflow takes in one request."""

    run: str
    metrics: list[tuple[str, float, int, int]]
    params: list[tuple[str, str]]
    tags: list[tuple[str, str]]
    time: int


@dataclass(frozen=True)
class Data:
    """A data set that a run has used."""

    run: str
    dataset: dict[str, str]
    context: str
    time: int


@dataclass(frozen=True)
class Artifact:
    """A file, or all files of a folder, that are kept in the spool until MLflow has them."""

    run: str
    path: str
    time: int


@dataclass(frozen=True)
class Model:
    """A model that MLflow can serve, saved in the spool by MLflow itself."""

    run: str
    path: str
    tags: dict[str, str]
    time: int


@dataclass(frozen=True)
class End:
    """A run ends."""

    run: str
    status: str
    time: int


Note = Start | Reused | Entries | Data | Artifact | Model | End
_KINDS: Mapping[str, type[Note]] = {
    kind.__name__: kind for kind in (Start, Reused, Entries, Data, Artifact, Model, End)
}
_SHAPES: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}


def as_line(note: Note) -> str:
    """Return a note as one line of JSON."""
    return json.dumps({"note": type(note).__name__, **asdict(note)}) + "\n"


def from_line(line: str) -> Note:
    """Return the note that a line holds.

    Raises:
        ValueError: it holds none; the message is one line.
    """
    try:
        values = json.loads(line)
        name = values.pop("note")
        # That nothing is missing, and nothing unknown, before the types of what there is.
        note: Note = _SHAPES[name].validate_python(asdict(_KINDS[name](**values)))
        return note
    except ValidationError as error:
        raise ValueError(f"no note: {first_fault(error)}") from None
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no note: {error}") from None
