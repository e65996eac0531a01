"""Reports that one stage wrote and another reads; git or a user may have changed them in between."""

import io
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from spacewarps.errors import SpaceWarpsError
from spacewarps.formulas import table_from_text
from spacewarps.reading import MAX_JSON_BYTES, read_bytes, read_json

DOUBTED = "doubted_labels.csv"

_Count = Annotated[int, Field(ge=1, le=2**31)]


class Report(BaseModel):
    """What a report must hold at least."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Block(Report):
    layer: _Count
    kind: str
    k: _Count
    val_accuracy: float


class _Joined(_Block):
    kernel_size: _Count


class _Candidate(_Block):
    chosen: bool
    value: float | None = None
    error: float | None = None


class _Control(Report):
    value: float | None = None


class _Decision(Report):
    sentence: str
    layer: _Count | None = None
    joins: bool | None = None
    gain: float | None = None
    gain_error: float | None = None
    control: _Control | None = None


class SearchReport(Report):
    """What ``reports/search.json`` must hold."""

    final_val_accuracy: float
    num_layers: _Count
    total_trainable_params: _Count
    stopped: str
    architecture: list[_Joined]
    candidates: Annotated[list[_Candidate], Field(min_length=1)]
    decides: Literal["loss", "accuracy", "balanced_accuracy"] | None = None
    decisions: list[_Decision] = []


class TrainingReport(Report):
    """What ``reports/training.json`` must hold."""

    epochs: _Count
    data: Literal["train", "train_and_validation", "folds"] = "train"
    best_epoch: _Count | None = None
    val_accuracy: float | None = None
    networks: _Count | None = None
    orientations: _Count | None = None
    temperature: float | None = None

    @model_validator(mode="after")
    def _has_what_its_data_gives(self) -> Self:
        for name in {"train": ("best_epoch", "val_accuracy"), "folds": ("networks", "val_accuracy")}.get(self.data, ()):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing")
        return self


class _Accuracies(Report):
    accuracy: float
    balanced_accuracy: float


class _Test(_Accuracies):
    accuracy_low: float
    accuracy_high: float
    confidence: float
    samples: _Count
    sources: _Count
    support: dict[str, int]
    recall: dict[str, float]
    never_predicted: list[str]

    @model_validator(mode="after")
    def _of_the_same_classes(self) -> Self:
        if self.recall.keys() != self.support.keys() or not self.support.keys() >= set(self.never_predicted):
            raise ValueError("support, recall and never_predicted are not of the same classes")
        return self


class _Gain(Report):
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    log_loss_low: float


class _Learned(_Accuracies):
    classifier: str
    gain: _Gain


class _Baselines(Report):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Learned]

    most_frequent_class: _Accuracies


class MetricsReport(Report):
    """What ``reports/metrics.json`` must hold."""

    test: _Test
    baseline: _Baselines


class _LeftOut(Report):
    count: int
    rows: list[str]


class _Split(Report):
    samples: int
    sources: int
    classes: dict[str, int]


class _Conflicts(Report):
    treatment: str
    sources: dict[str, dict[str, str]]


class AuditReport(Report):
    """What ``audit.json`` of a prepared survey must hold."""

    rows_in: int
    rows_kept: int
    left_out: dict[str, _LeftOut]
    notes: list[str]
    splits: dict[str, _Split]
    label_conflicts: _Conflicts


def read_audit(path: Path) -> dict[str, Any] | None:
    """Return what ``prepare`` left out and why; none where another program prepared it, or for millions of rows.

    Raises:
        SpaceWarpsError: it is damaged.
    """
    if not path.exists() or path.stat().st_size > MAX_JSON_BYTES:
        return None
    return read_report(path, AuditReport, "prepare")


def read_report(path: Path, shape: type[Report], stage: str) -> dict[str, Any]:
    """Return what ``stage`` wrote to ``path``.

    Raises:
        SpaceWarpsError: it is not there, or damaged.
    """
    try:
        return read_json(path, shape).model_dump(exclude_unset=True)
    except (OSError, ValueError) as error:
        raise _unusable(path, stage, error) from None


def read_learning_curves(path: Path) -> pd.DataFrame:
    """Return the epochs of the final training: ``epoch``, ``train_loss``, ``val_loss`` and ``val_accuracy``.

    Raises:
        SpaceWarpsError: they are not there, or damaged.
    """
    try:
        text = io.BytesIO(read_bytes(path, at_most=MAX_JSON_BYTES))
        table = pd.read_csv(text, dtype="float64")[["epoch", "train_loss", "val_loss", "val_accuracy"]]
        if table.empty or not table["epoch"].between(1, 2**31).all():
            raise ValueError("epochs should count from 1, and there should be one at least")
        return table
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(path, "train", error) from None


def read_doubted_labels(path: Path) -> pd.DataFrame:
    """Return the samples whose labels the final training doubts, those first that a human should look at first.

    Raises:
        SpaceWarpsError: the table is not there, or damaged.
    """
    probabilities = ["p_label", "p_suggested"]
    columns = ["id", "source", "label", "suggested", *probabilities, "source_disagrees"]
    try:
        text = io.BytesIO(read_bytes(path, at_most=MAX_JSON_BYTES))
        table = table_from_text(pd.read_csv(text, dtype="str", keep_default_na=False)[columns])
        disagrees = table["source_disagrees"]
        if not disagrees.isin(["True", "False"]).all():
            raise ValueError("source_disagrees should be True or False")
        return table.astype(dict.fromkeys(probabilities, "float64")).assign(source_disagrees=disagrees == "True")
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(path, "train", error) from None


def _unusable(path: Path, stage: str, error: Exception) -> SpaceWarpsError:
    if isinstance(error, FileNotFoundError):
        return SpaceWarpsError(f"{path}: no such file; run `dvc repro` first")
    reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
    return SpaceWarpsError(f"{path}: damaged ({reason:.200}); run `dvc repro --force --single-item {stage}`")
