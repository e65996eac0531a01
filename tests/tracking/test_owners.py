import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient

from spacewarps.processes import name_of
from spacewarps.tracking import queries
from spacewarps.tracking.notes import OWNER_TAG
from spacewarps.tracking.owners import end_abandoned_runs
from spacewarps.tracking.pipeline_run import stage_run
from spacewarps.tracking.tracker import Tracker
from tests.processes import of_process
from tests.tracking.runs import all_runs, client_of, run_of


def test_only_running_runs_of_processes_that_ended_are_ended(
    tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_of(tracker)
    experiment_id = run_of(tracker, tracker.start_run("of this process", None, {})).info.experiment_id
    dead = of_process(os.getpid(), 1)
    owned = {"own": name_of(psutil.Process()), "dead": dead, "of whom": "", "done": dead}
    found = {name: client.create_run(experiment_id, tags={OWNER_TAG: owner}) for name, owner in owned.items()}
    client.set_terminated(found["done"].info.run_id)
    end_abandoned_runs(client, experiment_id)
    status = {name: client.get_run(run.info.run_id).info.status for name, run in found.items()}
    assert status == {"own": "RUNNING", "dead": "KILLED", "of whom": "RUNNING", "done": "FINISHED"}
    assert capsys.readouterr().out == "MLflow: 1 run is KILLED now, as the process that wrote there has ended\n"
    end_abandoned_runs(client, experiment_id)
    assert capsys.readouterr().out == ""


def test_a_run_that_another_process_takes_up_meanwhile_is_left_to_it(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(tracker)
    experiment_id = run_of(tracker, tracker.start_run("of this process", None, {})).info.experiment_id
    run_id = client.create_run(experiment_id, tags={OWNER_TAG: of_process(os.getpid(), 1)}).info.run_id
    search = client.search_runs

    def take_up_afterwards(*arguments: Any, **options: Any) -> object:
        found = search(*arguments, **options)
        client.set_tag(run_id, OWNER_TAG, name_of(psutil.Process()))
        return found

    monkeypatch.setattr(client, "search_runs", take_up_afterwards)
    end_abandoned_runs(client, experiment_id)
    assert client.get_run(run_id).info.status == "RUNNING"


def test_a_run_that_goes_on_has_its_new_owner_before_it_is_running(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(tracker)
    experiment_id = run_of(tracker, tracker.start_run("of this process", None, {})).info.experiment_id
    tags = {"key": "of both", OWNER_TAG: of_process(os.getpid(), 1)}
    run_id = client.create_run(experiment_id, tags=tags).info.run_id
    client.set_terminated(run_id)
    seen: list[str] = []
    update = MlflowClient.update_run

    def note_owner(self: MlflowClient, run_id: str, status: str) -> None:
        seen.append(self.get_run(run_id).data.tags[OWNER_TAG])
        update(self, run_id, status)

    monkeypatch.setattr(MlflowClient, "update_run", note_owner)
    run = tracker.start_run("goes on", None, {"key": "of both"}, found_by="key")
    assert run_of(tracker, run).info.run_id == run_id
    assert seen == [name_of(psutil.Process())]


def test_more_runs_than_one_page_has_are_ended(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_A_PAGE", 1)
    client = client_of(tracker)
    experiment_id = run_of(tracker, tracker.start_run("of this process", None, {})).info.experiment_id
    tags = {OWNER_TAG: of_process(os.getpid(), 1)}
    left = [client.create_run(experiment_id, tags=tags).info.run_id for _ in range(3)]
    end_abandoned_runs(client, experiment_id)
    assert {client.get_run(run_id).info.status for run_id in left} == {"KILLED"}


STAGE = """
import time
from spacewarps.tracking.pipeline_run import stage_run
with stage_run("search", {}) as stage:
    stage.tracker.start_run("step 1", stage.run_id, {})
    for _ in range(6000):
        if not stage.tracker.spool.undelivered:
            break
        time.sleep(0.01)
    print("running", flush=True)
    time.sleep(60)
"""


def test_the_next_stage_ends_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", STAGE], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        # MLflow says where it makes a database.
        while process.stdout.readline() != "running\n":
            assert process.poll() is None
            time.sleep(0.01)
        return process

    killed, living = start(), start()
    killed.kill()
    killed.wait()
    with stage_run("train", {}) as stage:
        runs = all_runs(stage.tracker)
        status = {run.info.run_id: run.info.status for run in runs}
        owners_of = {run.info.run_id: run.data.tags[OWNER_TAG].split(" ")[2] for run in runs}
        of_killed = [status[run_id] for run_id, number in owners_of.items() if number == str(killed.pid)]
        of_living = [status[run_id] for run_id, number in owners_of.items() if number == str(living.pid)]
    living.kill()
    living.wait()
    assert of_killed == ["KILLED"] * 3
    assert of_living == ["RUNNING"] * 3
