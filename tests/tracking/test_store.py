from pathlib import Path

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus

from spacewarps.model.network import ProgressiveModel
from spacewarps.model.storage import save_model
from spacewarps.prediction.reference import REFERENCE_FILE, describe_training, write_reference
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.settings import StampSettings
from spacewarps.tracking.artifacts import log_model
from spacewarps.tracking.failures import TrackingError, reason, without_password
from spacewarps.tracking.notes import Model
from spacewarps.tracking.pipeline_run import stage_run
from spacewarps.tracking.store import find_store
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import client_of, run_of

ODD_NAMES = ["C# &;[v2]@:", "100%", "what?", "50%20off", "Übung 'x'"]


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("", "sqlite:///{root}/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///{root}/mlflow.db"),
        ("sqlite:///runs/a.db?timeout=5", "sqlite:///{root}/runs/a.db?timeout=5"),
        ("sqlite:////data/a.db", "sqlite:////data/a.db"),
        ("./mlruns", "file://{root}/mlruns"),
        ("file:mlruns", "file://{root}/mlruns"),
        ("file:///data/my%20runs", "file:///data/my%20runs"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("databricks", "databricks"),
        ("postgresql://a:b@host/db", "postgresql://a:b@host/db"),
    ],
)
def test_a_path_that_is_not_absolute_counts_from_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, found: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir("/")
    assert find_store(tmp_path).uri == found.format(root=tmp_path)


@pytest.mark.parametrize(
    ("uri", "artifacts"),
    [
        ("sqlite:///mlflow.db", "file://{root}/mlartifacts"),
        ("sqlite:////data/a.db", "file:///data/mlartifacts"),
        ("postgresql://host/db", "file://{root}/mlartifacts"),
        ("http://host", "None"),
    ],
)
def test_artifacts_have_a_place_that_does_not_depend_on_the_folder_a_stage_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, artifacts: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir("/")
    assert str(find_store(tmp_path).artifacts) == artifacts.format(root=tmp_path)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("localhost:5000", "write http://localhost:5000"),
        ("127.0.0.1:5000", "write http://127.0.0.1:5000"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:mlflow.db", "write sqlite:///mlflow.db"),
        ("sqlite:///file:a.db?uri=true", "write sqlite:///file:/FOLDER"),
        ("file://mlruns", "a machine called mlruns"),
        ("my.db", "write sqlite:///my.db"),
        ("http://[half", "is no address"),
        ("http://", "names no server; write http://HOST:PORT"),
        ("http://127.0.0.1:5000/#/experiments/1", "is a page of the browser; write http://127.0.0.1:5000"),
        ("https://:5000", "names no server; write https://HOST:PORT"),
    ],
)
def test_an_address_that_names_no_store_is_refused_with_what_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, told: str
) -> None:
    (tmp_path / "my.db").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI=") as caught:
        find_store(tmp_path)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_database_and_artifacts_are_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "report.txt").write_text("a report")
    tracker = Tracker(folder)
    run = tracker.start_run("first", None, {})
    tracker.log_artifacts(run, folder / "report.txt")
    run_id = run_of(tracker, run).info.run_id
    assert [file.path for file in client_of(tracker).list_artifacts(run_id)] == ["report.txt"]
    tracker.close("FINISHED")
    assert sorted(path.name for path in folder.iterdir()) == [".spacewarps", "mlartifacts", "mlflow.db", "report.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_whose_name_is_no_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="rename the folder"):
        find_store(tmp_path / "\udcff")


def test_a_failed_connection_is_told_without_the_password_and_with_its_cause() -> None:
    told = reason(ValueError("to http://me:secret@host failed: " + "x" * 1000 + " Connection refused"))
    assert told.startswith("to http://***@host failed")
    assert told.endswith("Connection refused")
    assert len(told) < 320


def test_the_network_is_stored_and_served_from_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation_data: Space_Galaxi
) -> None:
    folder = tmp_path / "what? 50%20off"
    folder.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(folder))
    model = ProgressiveModel(validation_data.stamp_shape, validation_data.feature_names, validation_data.classes)
    save_model(model, folder / "final")
    reference = describe_training(
        [validation_data], missing_codes={}, stamps=StampSettings(), coverage=0.9, thresholds=None
    )
    write_reference(reference, validation_data.classes, folder / "final" / REFERENCE_FILE)
    with stage_run("train", {"seed": 1}) as stage:
        log_model(stage, folder / "final", validation_data)
    run = run_of(stage.tracker, stage.run_id)
    assert run.info.status == "FINISHED"
    assert run.outputs is not None
    (output,) = run.outputs.model_outputs
    assert client_of(stage.tracker).get_logged_model(output.model_id).status == LoggedModelStatus.READY
    mlflow.set_tracking_uri(find_store(folder).uri)
    served = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    [answer] = served.predict(served.input_example).to_dict("records")
    assert list(answer) == ["class", *(f"p_{name}" for name in validation_data.classes), "unusual"]


def echo(model_input: list[str]) -> list[str]:
    return model_input


def test_a_model_that_is_delivered_a_second_time_is_one(tracker: Tracker) -> None:
    run = tracker.start_run("train", None, {})
    tracker.log(run, metrics={"best_epoch": 2.0})

    def save(path: Path) -> None:
        mlflow.pyfunc.save_model(path=path, python_model=echo, pip_requirements=[])

    tracker.log_model(run, save, tags={"model.hash": "0.dir"})
    tracker._sender.send(Model(run, "1/model", {"model.hash": "0.dir"}, 0))
    client, shown = client_of(tracker), run_of(tracker, run)
    assert shown.outputs is not None
    (output,) = shown.outputs.model_outputs
    (model,) = client.search_logged_models([shown.info.experiment_id])
    assert (model.model_id, model.status) == (output.model_id, LoggedModelStatus.READY)
    assert model.tags["model.hash"] == "0.dir"
    assert {metric.key: metric.value for metric in model.metrics or ()} == {"best_epoch": 2.0}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:p@ss@host:5000", "http://***@host:5000"),
        ("postgresql://me:a/b@host/x", "postgresql://***@host/x"),
        ("http://host:5000/a", "http://host:5000/a"),
        ("http://me@host and http://you:secret@host", "http://***@host and http://***@host"),
        ("https://t0ken@host/x", "https://***@host/x"),
        ("mysql+d://h/x?user=me&password=s3&charset=utf8", "mysql+d://h/x?user=***&password=***&charset=utf8"),
        ("cannot open 'mssql://h/x?UID=me;PWD=s3cr=et'", "cannot open 'mssql://h/x?UID=***;PWD=***'"),
    ],
)
def test_passwords_are_hidden_whatever_signs_they_hold(address: str, shown: str) -> None:
    assert without_password(address) == shown
