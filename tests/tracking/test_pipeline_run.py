import subprocess
from pathlib import Path

import pytest

from spacewarps.cli import main
from spacewarps.tracking.experiment import destination, open_experiment
from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.pipeline_run import StageRun, stage_run
from spacewarps.tracking.store import find_store
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import all_runs, client_of, run_of
from tests.tracking.servers import wait_for_senders


@pytest.fixture
def project(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a stage runs in."""
    monkeypatch.chdir(tracked)
    return tracked


def test_everything_given_arrives_however_much_it_is(tracker: Tracker) -> None:
    run_id = tracker.start_run("big", None, {"a": "b"})
    tracker.log(
        run_id,
        curves={"loss": [float(step) for step in range(1, 2001)]},
        params={f"p{i}": i for i in range(250)},
        metrics={"score": 0.5},
    )
    tracker.end_run(run_id)
    run = run_of(tracker, run_id)
    assert len(run.data.params) == 250
    assert run.data.metrics == {"loss": 2000.0, "score": 0.5}
    assert [m.step for m in client_of(tracker).get_metric_history(run.info.run_id, "loss")] == list(range(1, 2001))
    assert run.info.status == "FINISHED"


def test_a_database_that_is_none_from_the_start_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(TrackingError, match=r"mlflow\.db") as caught:
        Tracker(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
@pytest.mark.usefixtures("project")
def test_a_stage_that_fails_shows_as_failed_and_its_error_goes_on(error: type[BaseException], status: str) -> None:
    with pytest.raises(error), stage_run("train", {"seed": 1}) as stage:
        raise error
    for run_id in (stage.run_id, stage.pipeline_id):
        assert run_of(stage.tracker, run_id).info.status == status


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
@pytest.mark.usefixtures("project")
def test_a_pipeline_that_goes_on_without_a_stage_ends_as_that_did(error: type[BaseException], status: str) -> None:
    def status_after(name: str) -> str:
        with stage_run(name, {"seed": 1}) as stage:
            pass
        return str(run_of(stage.tracker, stage.pipeline_id).info.status)

    with pytest.raises(error), stage_run("search", {"seed": 1}):
        raise error
    assert status_after("crossvalidate") == status
    assert status_after("predict") == status
    # Typed again, it comes to its end.
    assert status_after("search") == "FINISHED"


@pytest.mark.usefixtures("project")
def test_runs_below_a_stage_that_is_interrupted_end_with_it() -> None:
    below: list[str] = []

    def interrupted(stage: StageRun) -> None:
        below.append(stage.tracker.start_run("step 1", stage.run_id, {}))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stage_run("search", {"seed": 1}) as stage:
        interrupted(stage)
    (step,) = below
    assert run_of(stage.tracker, step).info.status == "KILLED"


def test_artifacts_that_cannot_be_stored_wait_and_the_work_goes_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "report.txt").write_text("a report")
    (project / "mlartifacts").write_text("in the way")
    with stage_run("evaluate", {"seed": 1}) as stage:
        stage.log_artifacts(project / "report.txt")
    assert "report.txt, an artifact of a run, could not be stored" in capsys.readouterr().out
    (project / "mlartifacts").unlink()
    wait_for_senders()
    assert main(["sync"]) == 0
    (report,) = (project / "mlartifacts").glob("*/artifacts/report.txt")
    assert report.read_text() == "a report"


@pytest.mark.usefixtures("project")
def test_stages_typed_by_hand_share_the_run_of_their_process_and_no_other() -> None:
    with stage_run("search", {"seed": 1}) as search:
        pass
    with stage_run("train", {"seed": 1}) as train:
        assert run_of(train.tracker, train.pipeline_id).info.status == "RUNNING"
    tops = [stage.tracker.spool.runs[stage.pipeline_id] for stage in (search, train)]
    assert tops[0] == tops[1]
    assert search.run_id != train.run_id


@pytest.mark.parametrize("change", ["params", "commit"])
def test_what_a_run_of_the_pipeline_shows_has_made_the_results_of_all_its_stages(
    project: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "Start")
    shown: list[tuple[int, str]] = [(20, git("rev-parse", "HEAD"))]
    with stage_run("search", {"seed": 1, "train.epochs": 20}) as search:
        if change == "commit":
            git("commit", "--quiet", "--allow-empty", "--message", "Mend what runs next")
    shown.append((20 if change == "commit" else 40, git("rev-parse", "HEAD")))
    stages = [search]
    for name in ("train", "evaluate"):
        with stage_run(name, {"seed": 1, "train.epochs": shown[1][0]}) as stage:
            stage.log_metrics({f"{name}d": 1.0}, final=True)
        stages.append(stage)
    tops = [run_of(stage.tracker, stage.pipeline_id) for stage in stages]
    assert tops[1].info.run_id == tops[2].info.run_id
    assert [
        (int(top.data.params["train.epochs"]), top.data.tags["mlflow.source.git.commit"], top.info.status)
        for top in tops[:2]
    ] == [(*each, "FINISHED") for each in shown]
    assert (tops[0].data.metrics, tops[2].data.metrics) == ({}, {"traind": 1.0, "evaluated": 1.0})


@pytest.mark.parametrize("start", ["a folder of the project", "a temporary copy"])
def test_stages_that_run_in_another_folder_write_beside_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    root, copy = tmp_path / "project", tmp_path / "project/.dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db" if start == "a temporary copy" else "")
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.chdir(copy)
    with stage_run("train", {"seed": 1}) as stage:
        run = run_of(stage.tracker, stage.run_id).info
    assert run.artifact_uri == (root / "mlartifacts" / run.run_id / "artifacts").as_uri()
    assert (root / "mlflow.db").exists()
    assert list(copy.iterdir()) == []
    places = {experiment.artifact_location for experiment in client_of(stage.tracker).search_experiments()}
    assert not [place for place in places if "tmpabc" in place]


def test_the_experiment_is_the_one_that_mlflows_variables_name(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> tuple[str, str]:
        store = find_store(tracked)
        client, number = open_experiment(tracked, store, destination(store, tracked))
        return client.get_experiment(number).name, number

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "lenses")
    name, number = opened()
    assert name == "lenses"
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    assert opened() == (name, number)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "quasars")
    with pytest.raises(TrackingError, match="is the experiment lenses, but MLFLOW_EXPERIMENT_NAME is quasars"):
        opened()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(TrackingError, match="MLFLOW_EXPERIMENT_ID=77: there is no such experiment"):
        opened()


def test_a_stage_without_git_and_in_an_experiment_with_quotes_finds_its_pipeline(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(project))
    monkeypatch.setenv("DVC_EXP_NAME", "it's `one`")
    with stage_run("search", {"seed": 1}) as search:
        pass
    with stage_run("train", {"seed": 1}) as train:
        pass
    tops = [stage.tracker.spool.runs[stage.pipeline_id] for stage in (search, train)]
    assert tops[0] == tops[1]


def test_an_interruption_before_the_stage_has_begun_ends_its_runs(project: Path) -> None:
    class Interrupts:
        asked = 0

        def __str__(self) -> str:
            self.asked += 1
            # The first two are for the pipeline's run.
            if self.asked > 2:
                raise KeyboardInterrupt
            return "1"

    with pytest.raises(KeyboardInterrupt), stage_run("search", {"seed": Interrupts()}):
        pass
    tracker = Tracker(project)
    assert [run.info.status for run in all_runs(tracker)] == ["KILLED", "KILLED"]
    tracker.close("FINISHED")
