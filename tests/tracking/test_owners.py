import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spacewarps.tracking import owners
from spacewarps.tracking.owners import end_abandoned_runs, has_ended, this_process
from spacewarps.tracking.pipeline_run import stage_run
from spacewarps.tracking.tracker import OWNER_TAG, Tracker
from tests.tracking.runs import run_of


def of_process(number: int, start: float) -> str:
    machine, start_of_machine, _, _ = this_process().split(" ")
    return f"{machine} {start_of_machine} {number} {start:.2f}"


def test_a_process_has_ended_when_its_number_is_free_or_anothers() -> None:
    assert not has_ended(this_process())
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owner = of_process(sleeper.pid, psutil.Process(sleeper.pid).create_time())
    assert not has_ended(owner)
    sleeper.kill()
    sleeper.wait()
    assert has_ended(owner)
    own = psutil.Process()
    assert has_ended(of_process(own.pid, own.create_time() - 100))


def test_of_another_machine_nobody_can_tell_and_one_that_was_started_anew_has_ended_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = this_process()
    monkeypatch.setattr(owners, "_start_of_machine", lambda: "another")
    assert has_ended(owner)
    monkeypatch.setattr(owners, "_machine", lambda: "another")
    assert not has_ended(owner)
    assert not has_ended("")
    assert not has_ended("what another version wrote")


def test_only_running_runs_of_processes_that_ended_are_ended(
    tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name, owner in (("own", this_process()), ("dead", of_process(os.getpid(), 1.0)), ("of whom", "")):
        tracker.owner = owner
        found[name] = tracker.start_run(name, None, {})
    done = tracker.start_run("done", None, {OWNER_TAG: of_process(os.getpid(), 1.0)})
    tracker.end_run(done)
    end_abandoned_runs(tracker)
    status = {name: run_of(tracker, run_id).info.status for name, run_id in found.items()}
    assert status == {"own": "RUNNING", "dead": "KILLED", "of whom": "RUNNING"}
    assert run_of(tracker, done).info.status == "FINISHED"
    assert capsys.readouterr().out == "MLflow: 1 run is KILLED now, as the process that wrote there has ended\n"
    end_abandoned_runs(tracker)
    assert capsys.readouterr().out == ""


STAGE = """
import time
from spacewarps.tracking.pipeline_run import stage_run
with stage_run("search", {}) as stage:
    stage.tracker.start_run("step 1", stage.run_id, {})
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
        runs = stage.tracker.client.search_runs([stage.tracker.experiment_id])
        status = {run.info.run_id: run.info.status for run in runs}
        owners_of = {run.info.run_id: run.data.tags[OWNER_TAG].split(" ")[2] for run in runs}
        of_killed = [status[run_id] for run_id, number in owners_of.items() if number == str(killed.pid)]
        of_living = [status[run_id] for run_id, number in owners_of.items() if number == str(living.pid)]
    living.kill()
    living.wait()
    assert of_killed == ["KILLED"] * 3
    assert of_living == ["RUNNING"] * 3
