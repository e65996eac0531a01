import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from spacewarps.tracking.notes import OWN_ID
from spacewarps.tracking.pipeline_run import StageRun
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import run_of


def status(tracker: Tracker, run_id: str) -> str:
    return str(run_of(tracker, run_id).info.status)


def test_metrics_of_classes_that_mlflow_refuses_arrive_with_their_names(
    tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, stage = tracker.start_run("pipeline", None, {}), tracker.start_run("evaluate", None, {})
    metrics = {"test.recall.RR*": 0.5, "test.recall.../../x": 0.25, "test.recall.=cmd": 1.0, "test.accuracy": 0.75}
    StageRun(tracker, pipeline, stage, "pipeline").log_metrics(metrics, final=True)
    for run_id in (pipeline, stage):
        data = run_of(tracker, run_id).data
        assert {data.tags.get(name, name): value for name, value in data.metrics.items()} == metrics
    assert capsys.readouterr().out == ""


def test_values_that_are_no_numbers_are_written(tracker: Tracker) -> None:
    run_id = tracker.start_run("diverged", None, {})
    tracker.log(run_id, metrics={"loss": math.nan, "other": 1.0}, curves={"curve": [math.inf, 1.0]})
    found = run_of(tracker, run_id).data.metrics
    assert math.isnan(found["loss"])
    assert (found["other"], found["curve"]) == (1.0, 1.0)


def test_what_is_too_long_is_cut(tracker: Tracker) -> None:
    run_id = tracker.start_run("n" * 1000, None, {"tag": "t" * 20_000})
    tracker.log(run_id, params={"p": "v" * 20_000, "k" * 1000: 1}, tags={"architecture": "a" * 20_000})
    run = run_of(tracker, run_id)
    assert len(run.info.run_name) == 250
    assert len(run.data.params["p"]) == 6000
    assert {len(run.data.tags[name]) for name in ("tag", "architecture")} == {5000}


def test_a_tag_may_hold_the_id_that_mlflow_gives_its_run(tracker: Tracker) -> None:
    run_id = tracker.start_run("with a picture", None, {})
    tracker.log(run_id, tags={"picture": f"of {OWN_ID}"})
    run = run_of(tracker, run_id)
    assert run.data.tags["picture"] == f"of {run.info.run_id}"


def test_one_value_that_is_refused_does_not_take_the_others_with_it(
    tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = tracker.start_run("again", None, {})
    tracker.log(run_id, params={"seed": 1})
    tracker.log(run_id, params={f"p{i}": i for i in range(50)} | {"seed": 2}, metrics={"score": 0.5})
    data = run_of(tracker, run_id).data
    assert data.params == {f"p{i}": str(i) for i in range(50)} | {"seed": "1"}
    assert data.metrics == {"score": 0.5}
    (line,) = capsys.readouterr().out.splitlines()
    assert "MLflow did not take a note" in line
    assert "seed" in line


def test_notes_after_a_failure_wait_and_the_run_ends_as_what_it_was(
    tracker: Tracker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tracker.start_run("first", None, {})
    run_of(tracker, run)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("ALTER TABLE runs RENAME TO gone")
        connection.execute("ALTER TABLE experiments RENAME TO gone_too")
        tracker.log(run, metrics={"score": 0.5})
        tracker.end_run(run, "FINISHED")
        time.sleep(0.5)
        connection.execute("ALTER TABLE gone_too RENAME TO experiments")
        connection.execute("ALTER TABLE gone RENAME TO runs")
    second = tracker.start_run("second", run, {})
    tracker.close("KILLED")
    assert run_of(tracker, run).data.metrics["score"] == 0.5
    assert (status(tracker, run), status(tracker, second)) == ("FINISHED", "KILLED")
    assert capsys.readouterr().out.count("does not answer") == 1
