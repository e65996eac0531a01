import pytest

from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.pipeline_run import flatten, open_tracker, stage_run


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_tracker(tmp_path)


def test_everything_given_arrives_however_much_it_is(tracker):
    run_id = tracker.start_run("big", None, {"a": "b"})
    tracker.log(
        run_id,
        curves={"loss": [float(step) for step in range(1, 2001)]},
        params={f"p{i}": i for i in range(250)},
        metrics={"score": 0.5},
    )
    tracker.end_run(run_id)
    run = tracker.client.get_run(run_id)
    assert len(run.data.params) == 250
    assert run.data.metrics == {"loss": 2000.0, "score": 0.5}
    assert [m.step for m in tracker.client.get_metric_history(run_id, "loss")] == list(range(1, 2001))
    assert run.info.status == "FINISHED"


def test_a_database_that_fails_on_the_way_costs_the_log_and_not_the_work(tracker, tmp_path, capsys):
    run_id = tracker.start_run("first", None, {})
    (tmp_path / "mlflow.db").write_bytes(b"no database any more" * 1000)
    tracker.log(run_id, metrics={"score": 0.5})
    assert tracker.start_run("second", run_id, {}) is None
    tracker.end_run(run_id)
    assert capsys.readouterr().out.count("MLflow did not take a note") == 1


def test_a_database_that_is_none_from_the_start_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(TrackingError, match=r"mlflow\.db") as caught:
        open_tracker(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_stage_that_fails_shows_as_failed_and_its_error_goes_on(tmp_path, monkeypatch, error, status):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(error), stage_run("train", {"seed": 1}) as stage:
        raise error
    for run_id in (stage.run_id, stage.pipeline_id):
        assert stage.tracker.client.get_run(run_id).info.status == status


def test_runs_below_a_stage_that_is_interrupted_end_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    below = []

    def interrupted(stage):
        below.append(stage.tracker.start_run("step 1", stage.run_id, {}))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stage_run("search", {"seed": 1}) as stage:
        interrupted(stage)
    (step,) = below
    assert stage.tracker.client.get_run(step).info.status == "KILLED"


def test_artifacts_that_cannot_be_stored_cost_the_log_and_not_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "report.txt").write_text("a report")
    (tmp_path / "mlartifacts").write_text("in the way")
    with stage_run("evaluate", {"seed": 1}) as stage:
        stage.log_artifacts(tmp_path / "report.txt")
    assert "MLflow did not take a note" in capsys.readouterr().out


def test_stages_typed_by_hand_share_the_run_of_their_process_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_ROOT", "DVC_STAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    with stage_run("search", {"seed": 1}) as search:
        pass
    with stage_run("train", {"seed": 1}) as train:
        assert train.tracker.client.get_run(train.pipeline_id).info.status == "RUNNING"
    assert search.pipeline_id == train.pipeline_id
    assert search.run_id != train.run_id


def test_flatten_names_nested_values_by_their_path():
    assert flatten({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}) == {"a": 1, "b.c": [1, 2], "b.d.e": None}
