from pathlib import Path

import pytest

from spacewarps.settings import flatten
from spacewarps.tracking.groups import GROUPS, in_groups
from spacewarps.tracking.names import acceptable_name
from spacewarps.tracking.pipeline_run import StageRun
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import run_of

METRICS = {
    "test": {
        "accuracy": 0.75,
        "accuracy_low": 0.5,
        "confidence": 0.95,
        "log_loss": 0.5,
        "roc_auc": None,
        "recall": {"RR*/a.b": 0.25},
        "support": {"RR*/a.b": 4},
        "never_predicted": [],
        "samples": 8,
        "sets": {"size": 1.25, "of_class": {"RR*/a.b": 0.5}, "broken": ["RR*/a.b"]},
    },
    "baseline": {"features_alone": {"accuracy": 0.5}},
}
NAMES = {
    "test/accuracy": 0.75,
    "test/log_loss": 0.5,
    "test-interval/accuracy_low": 0.5,
    "test-interval/confidence": 0.95,
    "test-classes/recall.RR*/a.b": 0.25,
    "test-data/support.RR*/a.b": 4.0,
    "test-data/samples": 8.0,
    "test-sets/size": 1.25,
    "test-sets/of_class.RR*/a.b": 0.5,
    "test-baseline/features_alone.accuracy": 0.5,
}


def test_each_figure_is_in_the_group_that_it_belongs_to() -> None:
    assert in_groups(flatten(METRICS)) == NAMES
    assert list(in_groups(flatten(METRICS)))[:3] == [
        "test/accuracy",
        "test/log_loss",
        "test-baseline/features_alone.accuracy",
    ]
    assert sorted(GROUPS)[0] == "test"


@pytest.mark.parametrize("store", ["sqlite:///mlflow.db", "file:runs"])
def test_groups_arrive_in_every_store_whatever_the_classes_are_called(
    tracked: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    # MLflow keeps stores of files for those who ask for one.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracker = Tracker(tracked)
    top = tracker.start_run("pipeline", None, {})
    stage = StageRun(tracker, top, tracker.start_run("evaluate", top, {}), "pipeline")
    stage.log_metrics(in_groups(flatten(METRICS)))
    data = run_of(tracker, stage.run_id).data
    tracker.close("FINISHED")
    assert {data.tags.get(name, name): value for name, value in data.metrics.items()} == NAMES
    assert {name.partition("/")[0] for name in data.metrics} == GROUPS
    assert "test-classes/recall.RR_x002A__x002F_a.b" in data.metrics


@pytest.mark.parametrize("name", ["test/", "tests/accuracy", "/test/a", "a/test/b"])
def test_any_other_slash_is_escaped(name: str) -> None:
    assert "/" not in acceptable_name(name)


def test_a_long_name_in_a_group_is_cut_within_what_mlflow_allows() -> None:
    names = {acceptable_name(f"test-classes/{'*' * 300}{end}") for end in ("a", "b")}
    assert len(names) == 2
    assert all(name.startswith("test-classes/") and len(name) <= 250 for name in names)
