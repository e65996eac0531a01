"""The result of one state of the project: what it is of, and what it came to; all of it checked when it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pydantic import ValidationError

from spacewarps.commands.answers import MAX_TABLE_BYTES, Answers, read_answers
from spacewarps.commands.revisions import Revision
from spacewarps.errors import SpaceWarpsError
from spacewarps.reading import MAX_JSON_BYTES, first_fault
from spacewarps.stages.reports import MetricsReport, Report, SearchReport, TrainingReport
from spacewarps.tracking.lock_file import LOCK, LockedStage, read_lock
from spacewarps.yaml_params import MAX_BYTES

STAGE = "evaluate"
METRICS, SEARCH, TRAINING = "metrics.json", "search.json", "training.json"
ANSWERS = PurePosixPath("report", "predictions.csv")

# Two means of the same numbers in different orders.
_ROUNDING = 1e-6

_Shape = TypeVar("_Shape", bound=Report)


class _Scores(Report):
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    ece: float | None = None


@dataclass(frozen=True)
class Result:
    """What stands in the reports of one state of the project.

    Args:
        lock: what DVC recorded of the stages that led to it.
        reports: the folder of reports.
        metrics: what ``metrics.json`` says of the test split.
        search: what ``search.json`` holds.
        training: what ``training.json`` holds.
        answers: of each test sample; or in words why there are none.
    """

    lock: Mapping[str, LockedStage]
    reports: PurePosixPath
    metrics: Mapping[str, Any]
    search: Mapping[str, Any]
    training: Mapping[str, Any]
    answers: Answers | str


def read_result(revision: Revision) -> Result:
    """Return the result that the project holds at ``revision``.

    Raises:
        SpaceWarpsError: the pipeline was not run to its end there, or a file is damaged.
    """
    stages = _read_lock(revision)
    written = next((out.path for out in stages[STAGE].outs if out.path.name == METRICS), None)
    if written is None:
        raise SpaceWarpsError(f"{revision.name}: {LOCK} names no {METRICS} among what {STAGE} wrote; run `dvc repro`")
    reports = written.parent
    test = _read_report(revision, written, MetricsReport)["test"]
    _check(_Scores, test, f"{revision.name}: {written}")
    return Result(
        stages,
        reports,
        test,
        _read_report(revision, reports / SEARCH, SearchReport),
        _read_report(revision, reports / TRAINING, TrainingReport),
        _read_answers(revision, reports / ANSWERS, test),
    )


def _read_lock(revision: Revision) -> dict[str, LockedStage]:
    """Return what DVC recorded of the stages that led to the result."""
    try:
        return read_lock(revision.read(PurePosixPath(LOCK), at_most=MAX_BYTES).decode("utf-8")).led_to(STAGE)
    except FileNotFoundError:
        what = "there is none"
    except OSError as error:
        what = error.strerror or str(error)
    except ValueError as error:
        what = f"{error!s:.200}"
    raise SpaceWarpsError(f"{revision.name}: {LOCK} tells of no result ({what}); run `dvc repro` there first")


def _read_report(revision: Revision, path: PurePosixPath, shape: type[Report]) -> dict[str, Any]:
    try:
        content = revision.read(path, at_most=MAX_JSON_BYTES)
    except FileNotFoundError:
        raise SpaceWarpsError(f"{revision.name}: {path} is not there; run `dvc repro` there first") from None
    except OSError as error:
        raise SpaceWarpsError(f"{revision.name}: {path}: {error.strerror or error}") from None
    return _check(shape, content, f"{revision.name}: {path}")


def _check(shape: type[_Shape], content: bytes | Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        made = shape.model_validate_json(content) if isinstance(content, bytes) else shape.model_validate(content)
    except ValidationError as error:
        raise SpaceWarpsError(f"{where}: damaged ({first_fault(error)}); run `dvc repro` there again") from None
    return made.model_dump(exclude_unset=True)


def _read_answers(revision: Revision, path: PurePosixPath, test: Mapping[str, Any]) -> Answers | str:
    try:
        answers = read_answers(revision.read(path, at_most=MAX_TABLE_BYTES))
    except FileNotFoundError:
        # Git holds the metrics, DVC the answers: a clone has them once they are pulled.
        return f"{path} is {'neither in the cache of DVC nor in its remote' if revision.commit else 'not there'}"
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    except ValueError as error:
        return f"{path} is damaged ({error})"
    told, found = (test["accuracy"], test["log_loss"]), (answers.right.mean(), answers.losses.mean())
    if any(abs(one - other) > _ROUNDING for one, other in zip(told, found, strict=True)):
        return f"{path} is of another run than {METRICS}"
    return answers
