import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from spacewarps.tracking.pipeline_run import StageRun
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import run_of


def status(tracker: Tracker, run_id: str | None) -> str:
    return str(run_of(tracker, run_id).info.status)


def test_metrics_of_classes_that_mlflow_refuses_arrive_with_their_names(
    tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, stage = tracker.start_run("pipeline", None, {}), tracker.start_run("evaluate", None, {})
    metrics = {"test.recall.RR*": 0.5, "test.recall.../../x": 0.25, "test.recall.=cmd": 1.0, "test.accuracy": 0.75}
    StageRun(tracker, pipeline, stage).log_metrics(metrics, final=True)
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


def test_notes_after_a_failure_are_taken_and_the_run_ends_as_what_it_was(
    tracker: Tracker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = tracker.start_run("first", None, {})
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("ALTER TABLE runs RENAME TO gone")
        tracker.log(run_id, metrics={"score": 0.5})
        tracker.end_run(run_id, "FINISHED")
        connection.execute("ALTER TABLE gone RENAME TO runs")
    tracker.log(run_id, metrics={"later": 1.0})
    second = tracker.start_run("second", run_id, {})
    tracker.end_open_runs("KILLED")
    assert run_of(tracker, run_id).data.metrics["later"] == 1.0
    assert (status(tracker, run_id), status(tracker, second)) == ("FINISHED", "KILLED")
    assert capsys.readouterr().out.count("MLflow did not take a note") <= 2


def test_a_store_that_fails_slowly_is_not_asked_at_every_note(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    tracker._start = 0.0
    asked: list[float] = []

    def fails_after_20_seconds() -> None:
        asked.append(clock[0])
        clock[0] += 20
        raise TimeoutError("no answer")

    for _ in range(1000):
        tracker.attempt(fails_after_20_seconds)
        clock[0] += 1
    assert len(asked) == 2
    run_id = tracker.start_run("while it is not asked", None, {})
    assert run_id is None
