import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import mlflow
import pytest

from spacewarps.tracking.registry import Registry
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import experiment_of, run_of
from tests.tracking.test_store import echo


@pytest.fixture
def original(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of an odd name, whose MLflow has a run with a file, and a registered model."""
    folder = tmp_path / "50% first"
    folder.mkdir()
    shutil.copy(tables, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        # MLflow's own experiment, as where the database was made in this folder.
        connection.execute("UPDATE experiments SET artifact_location = ?", (f"{folder}/mlruns/0",))
        connection.commit()
    (folder / "report.txt").write_text("earlier")
    tracker = Tracker(folder)
    run = tracker.start_run("earlier", None, {})
    tracker.log_artifacts(run, folder / "report.txt")
    tracker.log_model(
        run,
        lambda path: mlflow.pyfunc.save_model(path=path, python_model=echo, pip_requirements=[]),
        tags={"model.hash": "0.dir"},
    )
    tracker.close("FINISHED")
    registry = Registry(*experiment_of(folder), "model")
    registry.open()
    model = registry.logged_model("0.dir")
    assert model is not None
    registry.register(model, {})
    # MLflow names the store to processes that it might start.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return folder


def named(folder: Path) -> set[str]:
    """Return the folders that any row of the database names."""
    columns = [("experiments", "artifact_location"), ("runs", "artifact_uri"), ("model_versions", "storage_location")]
    columns += [("logged_models", "artifact_location")]
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        rows = [row for table, name in columns for row in connection.execute(f"SELECT {name} FROM {table}")]
    places = [unquote(str(place).removeprefix("file://")) for (place,) in rows]
    return {place.partition("/mlartifacts")[0].partition("/mlruns")[0] for place in places}


def log_more(folder: Path) -> Path:
    """Log another run, and return the folder of its artifacts."""
    tracker = Tracker(folder)
    run = tracker.start_run("later", None, {})
    (folder / "report.txt").write_text("later")
    tracker.log_artifacts(run, folder / "report.txt")
    place = str(run_of(tracker, run).info.artifact_uri)
    tracker.close("FINISHED")
    return Path(unquote(place.removeprefix("file://")))


def earlier_report(folder: Path, aside: Path) -> str:
    client, experiment_id = experiment_of(folder)
    (run,) = [run for run in client.search_runs([experiment_id]) if run.info.run_name == "earlier"]
    aside.mkdir()
    return Path(client.download_artifacts(run.info.run_id, "report.txt", str(aside))).read_text()


def test_a_project_that_was_moved_writes_and_finds_everything_where_it_is(original: Path, tmp_path: Path) -> None:
    moved = original.rename(tmp_path / "second #1")
    place = log_more(moved)
    assert place.is_relative_to(moved)
    assert (place / "report.txt").read_text() == "later"
    assert not original.exists()
    assert earlier_report(moved, tmp_path / "aside") == "earlier"
    assert named(moved) == {str(moved)}
    client, _ = experiment_of(moved)
    network = Path(unquote(client.get_model_version_download_uri("model", "1").removeprefix("file://")))
    assert (network / "MLmodel").is_relative_to(moved)
    assert (network / "MLmodel").exists()


def test_a_copy_leaves_the_original_alone(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "copy")
    before = sorted(original.rglob("*"))
    assert log_more(tmp_path / "copy").is_relative_to(tmp_path / "copy")
    shutil.rmtree(original / "mlartifacts")
    assert earlier_report(tmp_path / "copy", tmp_path / "aside") == "earlier"
    assert [path for path in before if "mlartifacts" not in path.parts] == sorted(original.rglob("*"))
    assert named(original) == {str(original)}


def test_a_copy_of_the_database_alone_knows_where_the_files_of_its_runs_are(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(original / "mlflow.db", copy / "mlflow.db")
    assert log_more(copy).is_relative_to(copy)
    assert earlier_report(copy, tmp_path / "aside") == "earlier"


def test_a_database_outside_of_the_project_is_left_as_it_is(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = original.rename(tmp_path / "shared")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}/mlflow.db")
    before = named(shared)
    experiment_of(project)
    assert named(shared) == before


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "statement",
    [
        # As earlier versions made it, and where MLflow's first experiment tells nothing.
        "DELETE FROM experiment_tags WHERE key = 'spacewarps.artifacts'",
        "UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0' WHERE experiment_id = 0",
    ],
)
def test_a_project_that_is_moved_twice_follows_itself(original: Path, tmp_path: Path, statement: str) -> None:
    change(original, statement)
    for name in ("second", "third"):
        original = original.rename(tmp_path / name)
        place = log_more(original)
        assert place.is_relative_to(original)
    assert earlier_report(original, tmp_path / "aside") == "earlier"


def test_a_project_with_its_database_in_a_folder_follows_itself(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "first"
    (project / "runs").mkdir(parents=True)
    (tracked / "mlflow.db").rename(project / "mlflow.db")
    change(project, f"UPDATE experiments SET artifact_location = '{project}/mlruns/0' WHERE experiment_id = 0")
    (project / "mlflow.db").rename(project / "runs/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/mlflow.db")
    assert log_more(project).is_relative_to(project / "runs/mlartifacts")
    change(project / "runs", "DELETE FROM experiment_tags WHERE key = 'spacewarps.artifacts'")
    moved = project.rename(tmp_path / "second")
    assert log_more(moved).is_relative_to(moved / "runs/mlartifacts")


def test_a_place_that_the_user_chose_stays(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tmp_path / "large disk" / "mlartifacts"
    client, _ = experiment_of(original)
    client.create_experiment("mine", artifact_location=chosen.as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert log_more(original).is_relative_to(chosen)
    moved = original.rename(tmp_path / "second")
    assert log_more(moved).is_relative_to(chosen)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert log_more(moved).is_relative_to(moved)
