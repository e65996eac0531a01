import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spacewarps.tracking.description import pipeline_tags
from spacewarps.tracking.tracker import Tracker
from spacewarps.tracking.ui import where_to_look
from spacewarps.tracking.views import experiment_tags, results_page
from tests.tracking.runs import client_of, experiment_of, run_of

VIEWS = ("space-warps-results", "space-warps-candidates")


def tags(root: Path) -> dict[str, str]:
    client, experiment_id = experiment_of(root)
    return dict(client.get_experiment(experiment_id).tags)


def test_an_experiment_that_the_project_makes_has_kind_note_and_views(tracked: Path) -> None:
    found = tags(tracked)
    assert found["mlflow.experimentKind"] == "custom_model_development"
    assert "Space Warps" in found["mlflow.note.content"]
    for view in VIEWS:
        # The envelope that MLflow's page reads.
        envelope = json.loads(found[f"mlflow.sharedViewState.{view}"])
        assert (type(envelope["name"]), type(envelope["createdAt"])) == (str, int)
        state = json.loads(envelope["state"])
        assert state["selectedColumns"] == state["columnOrder"]


def test_a_view_finds_the_runs_that_it_is_for(tracked: Path, tracker: Tracker) -> None:
    top = tracker.start_run("pipeline", None, {"spacewarps.pipeline": "a"})
    below = tracker.start_run("conv k=4", top, {"spacewarps.level": "candidate"})
    for view, expected in zip(VIEWS, (top, below), strict=True):
        state = json.loads(json.loads(tags(tracked)[f"mlflow.sharedViewState.{view}"])["state"])
        (run,) = client_of(tracker).search_runs([experiment_of(tracked)[1]], state["searchFilter"])
        assert run.info.run_id == run_of(tracker, expected).info.run_id


def test_what_an_experiment_is_found_with_stays(tracked: Path) -> None:
    name = f"mlflow.sharedViewState.{VIEWS[0]}"
    client, experiment_id = experiment_of(tracked)
    client.set_experiment_tag(experiment_id, "mlflow.note.content", "ours")
    client.set_experiment_tag(experiment_id, name, "changed in the page")
    client.delete_experiment_tag(experiment_id, "mlflow.experimentKind")
    found = tags(tracked)
    assert (found["mlflow.note.content"], found[name]) == ("ours", "changed in the page")
    assert found["mlflow.experimentKind"] == "custom_model_development"


def test_an_experiment_of_others_gets_views_and_no_note(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment_of(tracked)[0].create_experiment("of others")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of others")
    found = tags(tracked)
    assert experiment_tags().keys() - found.keys() == {"mlflow.note.content"}


def test_the_last_word_names_the_page_of_the_store_that_was_written_to(
    tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = results_page("http://127.0.0.1:5000", experiment_of(tracked)[1])
    assert page.endswith("/runs?workflowType=machine_learning&viewStateShareKey=space-warps-results")
    assert where_to_look(tracked) == f"`mlflow ui --backend-store-uri sqlite:///mlflow.db` serves {page}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert where_to_look(tracked) == f'`mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"` serves {page}'
    (tracked / "Makefile").touch()
    assert "`make ui`, with MLFLOW_TRACKING_URI as it is now, opens" in where_to_look(tracked)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert where_to_look(tracked) == "`make ui` opens MLflow on this project's runs"


def test_asking_where_to_look_makes_no_database(tmp_path: Path) -> None:
    assert where_to_look(tmp_path).endswith("serves http://127.0.0.1:5000")
    assert list(tmp_path.iterdir()) == []


def test_make_ui_names_the_page_beside_the_address(tracked: Path) -> None:
    client, experiment_id = experiment_of(tracked)
    command = [sys.executable, "-m", "spacewarps.tracking.ui", "5001"]
    done = subprocess.run(command, cwd=tracked, capture_output=True, text=True, check=True)
    assert done.stdout == f"{client.tracking_uri}\n"
    assert results_page("http://127.0.0.1:5001", experiment_id) in done.stderr


def test_make_ui_promises_no_page_on_a_port_that_is_taken_or_none(tracked: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = str(taken.getsockname()[1])
        for port, why in ((number, f"port {number} of 127.0.0.1 cannot be had"), ("abc", "PORT=abc is no number")):
            command = [sys.executable, "-m", "spacewarps.tracking.ui", port]
            done = subprocess.run(command, cwd=tracked, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"make ui: {why}")
            assert done.stderr.count("\n") == 1


SEARCH = {
    "num_layers": 1,
    "total_trainable_params": 12345,
    "stopped": "max_layers",
    "architecture": [{"layer": 1, "kind": "conv", "k": 8, "kernel_size": 5, "channels": [1, 8], "val_accuracy": 0.5}],
    "candidates": [{"layer": 1}],
    "decisions": [{"sentence": "step 1: conv 5x5 k=8 joins: loss 0.5"}],
}
METRICS = {
    "test": {
        "accuracy": 0.75,
        "accuracy_low": 0.5,
        "accuracy_high": 1.0,
        "confidence": 0.9,
        "samples": 8,
        "sources": 4,
        "log_loss": 0.5,
        "ece": 0.25,
    },
    "baseline": {"features_alone": {"classifier": "boosting", "accuracy": 0.5}},
}


def test_a_description_has_result_architecture_decisions_and_what_is_next() -> None:
    found = pipeline_tags(SEARCH, METRICS, ["never predicted: QSO"])
    note = found["mlflow.note.content"]
    assert found["spacewarps.architecture"] == "conv 5x5 k=8"
    for part in (
        "**Test accuracy 0.7500**, 90% interval 0.5000 to 1.0000 (8 samples of 4 sources)",
        "Beside it: boosting 0.5000.",
        "- **never predicted: QSO**",
        "1 block, 12,345 parameters",
        "| 1 | conv 5x5 k=8 | 1 to 8 | 0.5000 |",
        "`dvc exp run --set-param search.max_layers=3`",
        "- step 1: conv 5x5 k=8 joins: loss 0.5",
        "](get-artifact?path=depth.png&run_uuid={run_id})",
    ):
        assert part in note


def test_a_description_before_the_test_split_says_so() -> None:
    note = pipeline_tags(SEARCH)["mlflow.note.content"]
    assert note.startswith("The test split was not met yet.")
    assert "report" not in note
    assert "get-artifact" not in note
