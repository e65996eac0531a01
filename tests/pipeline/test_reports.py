import copy
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spacewarps.errors import SpaceWarpsError
from spacewarps.reading import MAX_JSON_BYTES
from spacewarps.stages.reports import (
    MetricsReport,
    SearchReport,
    TrainingReport,
    read_audit,
    read_doubted_labels,
    read_learning_curves,
    read_report,
)
from spacewarps.writing import write_csv
from tests.complaints import complaint

BLOCK = {"layer": 1, "kind": "conv", "k": 8, "kernel_size": 3, "val_accuracy": 0.5}
TEST = {
    "accuracy": 0.5,
    "accuracy_low": 0.4,
    "accuracy_high": 0.6,
    "balanced_accuracy": 0.5,
    "confidence": 0.95,
    "samples": 4,
    "sources": 3,
    "support": {"A": 3, "B": 1},
    "recall": {"A": 0.5, "B": 0.0},
    "never_predicted": ["B"],
    "roc_auc": None,
}
GOOD: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "search.json": (
        SearchReport,
        "search",
        {
            "final_val_accuracy": 0.5,
            "num_layers": 1,
            "total_trainable_params": 80,
            "stopped": "no gain",
            "architecture": [BLOCK],
            "candidates": [BLOCK | {"chosen": True, "val_loss": None}],
        },
    ),
    "training.json": (TrainingReport, "train", {"start": "warm", "epochs": 2, "best_epoch": 1, "val_accuracy": 1}),
    "metrics.json": (
        MetricsReport,
        "evaluate",
        {
            "test": TEST,
            "baseline": {"most_frequent_class": {"accuracy": 0.3, "balanced_accuracy": 0.5}},
        },
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_report_comes_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    shape, stage, value = GOOD[name]
    (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
    assert read_report(tmp_path / name, shape, stage) == value


@pytest.mark.parametrize(
    "value",
    [
        {"start": "warm", "epochs": 2, "data": "train_and_validation", "networks": 1},
        {"start": "fresh", "epochs": 2, "data": "folds", "networks": 3, "val_accuracy": 0.5, "val_loss": 0.25},
    ],
)
def test_a_final_training_on_other_data_comes_back_too(tmp_path: Path, value: dict[str, Any]) -> None:
    (tmp_path / "training.json").write_text(json.dumps(value), encoding="utf-8")
    assert read_report(tmp_path / "training.json", TrainingReport, "train") == value


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "text", ["", "[", "null", "5", "{}", "[]", "[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\xff"]
)
def test_a_report_that_is_none_is_damaged_and_the_stage_that_writes_it_is_named(
    tmp_path: Path, name: str, text: str
) -> None:
    shape, stage, _ = GOOD[name]
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    told = complaint(SpaceWarpsError, read_report, tmp_path / name, shape, stage)
    assert told.startswith(f"{tmp_path / name}: damaged (")
    assert told.endswith(f"); run `dvc repro --force --single-item {stage}`")


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        ("search.json", "candidates", 5, "'candidates': Input should be a valid array"),
        ("search.json", "candidates", [], "'candidates': List should have at least 1 item"),
        ("search.json", "candidates", [BLOCK], "'candidates.0.chosen': Field required"),
        (
            "search.json",
            "candidates",
            [BLOCK | {"chosen": True, "k": "8"}],
            "'candidates.0.k': Input should be a valid",
        ),
        ("search.json", "architecture", [BLOCK | {"layer": 10**30}], "'architecture.0.layer': Input should be less"),
        ("search.json", "stopped", None, "'stopped': Input should be a valid string"),
        (
            "search.json",
            "decisions",
            [{"sentence": "step 1", "gain": "0.1"}],
            "'decisions.0.gain': Input should be a valid number",
        ),
        (
            "search.json",
            "decisions",
            [{"sentence": "step 2", "control": {"value": "0.1"}}],
            "'decisions.0.control.value': Input should be a valid number",
        ),
        ("training.json", "best_epoch", None, "Value error, best_epoch is missing"),
        ("training.json", "data", "folds", "Value error, networks is missing"),
        ("training.json", "data", "all", "'data': Input should be 'train', 'train_and_validation' or 'folds'"),
        ("training.json", "best_epoch", "1", "'best_epoch': Input should be a valid integer"),
        ("training.json", "val_accuracy", float("nan"), "'val_accuracy': Input should be a finite number"),
        ("metrics.json", "test", [], "'test': Input should be an object"),
        ("metrics.json", "baseline", {}, "'baseline.most_frequent_class': Field required"),
        ("metrics.json", "test", TEST | {"recall": {"A": 0.5}}, "'test': Value error, support, recall"),
    ],
)
def test_a_report_of_another_shape_is_damaged(tmp_path: Path, name: str, place: str, value: Any, told: str) -> None:
    shape, stage, good = GOOD[name]
    (tmp_path / name).write_text(json.dumps(copy.deepcopy(good) | {place: value}), encoding="utf-8")
    assert told in complaint(SpaceWarpsError, read_report, tmp_path / name, shape, stage)


def test_a_report_that_is_missing_or_a_pipe_is_named_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "training.json"
    for read in (lambda: read_report(path, TrainingReport, "train"), lambda: read_learning_curves(path)):
        assert complaint(SpaceWarpsError, read) == f"{path}: no such file; run `dvc repro` first"
        os.mkfifo(path)
        assert (
            complaint(SpaceWarpsError, read)
            == f"{path}: damaged (a pipe or a device, not a file); run `dvc repro --force --single-item train`"
        )
        path.unlink()


HEADER = "epoch,train_loss,val_loss,val_accuracy"


def test_learning_curves_come_back_without_validation(tmp_path: Path) -> None:
    path = tmp_path / "learning_curves.csv"
    path.write_text(f"{HEADER}\n1,0.5,,\n2,0.25,,\n", encoding="utf-8")
    assert read_learning_curves(path)["train_loss"].tolist() == [0.5, 0.25]
    assert read_learning_curves(path)["val_accuracy"].isna().all()


def test_learning_curves_come_back_with_an_epoch_that_diverged(tmp_path: Path) -> None:
    path = tmp_path / "learning_curves.csv"
    path.write_text(f"{HEADER}\n1,0.5,0.25,1.0\n2,,inf,0.5\n", encoding="utf-8")
    assert read_learning_curves(path)["val_loss"].tolist() == [0.25, float("inf")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}\n,1,1,1\n",
        f"{HEADER}\n-1,1,1,1\n",
        "\0",
        "a,b\n1,2\n",
        f"{HEADER}\n1,2,3,high\n",
        f"{HEADER}\n1,2\n1,2,3,4,5,6\n",
    ],
)
def test_learning_curves_that_are_none_are_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "learning_curves.csv"
    path.write_text(text, encoding="utf-8")
    told = complaint(SpaceWarpsError, read_learning_curves, path)
    assert told.startswith(f"{path}: damaged (")
    assert told.endswith("); run `dvc repro --force --single-item train`")


DOUBTED = pd.DataFrame(
    [
        ["007", "007", "NA", "<b>", 0.25, 0.5, True],
        ["b", "c", "QSO", "NA", 0.0001, 1.0, False],
        ["=1+1", "'=1+1", "-7", "@", 0.0001, 1.0, False],
    ],
    columns=["id", "source", "label", "suggested", "p_label", "p_suggested", "source_disagrees"],
)


def test_doubted_labels_come_back_as_they_were_written(tmp_path: Path) -> None:
    for table in (DOUBTED, DOUBTED.iloc[:0]):
        write_csv(tmp_path / "doubted_labels.csv", table)
        assert read_doubted_labels(tmp_path / "doubted_labels.csv").to_dict() == table.to_dict()


@pytest.mark.parametrize("changes", [{"p_label": "high"}, {"source_disagrees": "maybe"}])
def test_damaged_doubted_labels_name_the_stage_that_writes_them(tmp_path: Path, changes: dict[str, str]) -> None:
    path = tmp_path / "doubted_labels.csv"
    write_csv(path, DOUBTED.assign(**changes))
    told = complaint(SpaceWarpsError, read_doubted_labels, path)
    assert told.startswith(f"{path}: damaged (")
    assert told.endswith("); run `dvc repro --force --single-item train`")


AUDIT: dict[str, Any] = {
    "rows_in": 2,
    "rows_kept": 1,
    "left_out": {"no stamp": {"count": 1, "rows": ["a"]}},
    "notes": [],
    "splits": {"train": {"samples": 1, "sources": 1, "classes": {"STAR": 1}}},
    "label_conflicts": {"treatment": "keep", "sources": {"a": {"a": "STAR", "b": "QSO"}}},
}


def test_an_audit_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(AUDIT), encoding="utf-8")
    assert read_audit(tmp_path / "audit.json") == AUDIT


def test_without_an_audit_or_with_one_of_millions_of_rows_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    assert read_audit(path) is None
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    assert read_audit(path) is None


@pytest.mark.parametrize("changes", [{"rows_in": "two"}, {"left_out": {"a": 1}}, {"notes": [1]}, {"splits": None}])
def test_a_damaged_audit_names_the_stage_that_writes_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(AUDIT | changes), encoding="utf-8")
    told = complaint(SpaceWarpsError, read_audit, path)
    assert told.startswith(f"{path}: damaged (")
    assert told.endswith("); run `dvc repro --force --single-item prepare`")
