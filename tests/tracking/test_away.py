"""A tracking server that is dead, dies, is slow or stands still: the work goes on, and everything arrives once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from spacewarps.cli import main
from spacewarps.commands import sync as sync_command
from spacewarps.processes import alone_in
from spacewarps.tracking import delivery
from spacewarps.tracking.experiment import destination, open_experiment
from spacewarps.tracking.failures import TrackingError, UnansweredError
from spacewarps.tracking.notes import OWNER_TAG, PARENT_TAG, PIPELINE_TAG, RUN_TAG
from spacewarps.tracking.pipeline_run import stage_run
from spacewarps.tracking.spool import Spool, taken
from spacewarps.tracking.store import find_store
from spacewarps.tracking.tracker import Tracker
from spacewarps.tracking.waiting import SPOOL
from tests.tracking.runs import client_of
from tests.tracking.servers import Line, Server, wait_for_senders
from tests.tracking.two_stages import stages

pytestmark = pytest.mark.long

STAGES = [sys.executable, "-m", "tests.tracking.two_stages"]


@pytest.fixture(scope="module")
def server(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Path(shutil.copy(tables, tmp_path_factory.mktemp("server"))).parent)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def line(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    line = Line(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.address.replace("//", "//me:geheim@"))
    yield line
    line.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder, whose runs are an experiment of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    (tmp_path / "report.txt").write_text("a report")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    return tmp_path


def experiments(server: Server) -> list[str]:
    """Return the id of the experiment of this test, if it is there."""
    found = MlflowClient(server.address).get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    return [found.experiment_id] if found else []


def tree(server: Server) -> dict[str, Any]:
    """Return all that stands in an experiment, run below run, without what differs each time."""
    client = MlflowClient(server.address)
    found = experiments(server)
    runs = list(client.search_runs(found, max_results=1000)) if found else []

    def below(parent: str | None) -> dict[str, Any]:
        branches: dict[str, Any] = {}
        for run in runs:
            if run.data.tags.get(PARENT_TAG) != parent:
                continue
            assert run.info.run_name not in branches
            owned = {OWNER_TAG, RUN_TAG, PARENT_TAG, PIPELINE_TAG}
            histories = {
                name: sorted(
                    (point.step, repr(point.value)) for point in client.get_metric_history(run.info.run_id, name)
                )
                for name in run.data.metrics
            }
            for name in run.data.metrics:
                for point in client.get_metric_history(run.info.run_id, name):
                    assert run.info.start_time <= point.timestamp <= run.info.end_time
            branches[run.info.run_name] = {
                "status": run.info.status,
                "metrics": histories,
                "params": run.data.params,
                "tags": {name: value for name, value in run.data.tags.items() if name not in owned},
                "data": [entry.dataset.digest for entry in run.inputs.dataset_inputs] if run.inputs else [],
                "artifacts": [file.path for file in client.list_artifacts(run.info.run_id)],
                "below": below(run.info.run_id),
            }
        return branches

    return below(None)


@pytest.fixture(scope="module")
def expected(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What stands in MLflow if nothing goes wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "expected")
        folder = tmp_path_factory.mktemp("expected")
        (folder / "report.txt").write_text("a report")
        patch.chdir(folder)
        stages()
        # Where the machine is busy, a stage does not wait for all of it.
        assert sync() == 0
        found = tree(server)
    assert not list((folder / SPOOL).iterdir())
    return found


def sync() -> int:
    """Deliver what the stages have left."""
    wait_for_senders()
    return main(["sync"])


def test_what_is_expected_is_a_whole_tree(expected: dict[str, Any]) -> None:
    (pipeline,) = expected.values()
    assert pipeline["below"].keys() == {"search", "train"}
    (step,) = pipeline["below"]["search"]["below"].values()
    assert step["below"].keys() == {"conv k=4", "conv k=8"}
    assert pipeline["params"] == {"seed": "1", "RR_x002A_": "2"}
    assert step["below"]["conv k=4"]["metrics"] == {
        "loss": [(1, "3.0"), (2, "2.0"), (3, "2.0")],
        "score": [(0, "0.4")],
    }
    assert pipeline["below"]["search"]["artifacts"] == ["report.txt"]


def test_a_server_that_is_dead_from_the_start_gets_everything_later(
    server: Server, line: Line, folder: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    line.allowed = 0
    stages()
    said = capsys.readouterr().out
    assert said.count("the next stage that reaches it delivers them, or `spacewarps sync`") == 2
    assert sync() == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "go on waiting in .spacewarps/spool" in complaint
    assert len(list((folder / SPOOL).iterdir())) == 2
    kept = b"".join(path.read_bytes() for path in (folder / SPOOL).rglob("*") if path.is_file())
    assert b"geheim" not in kept
    line.allowed = sys.maxsize
    before = time.time() * 1000
    assert sync() == 0
    told = capsys.readouterr()
    assert f"notes delivered to {line.address}\n" in told.out
    assert "geheim" not in said + complaint + told.out + told.err
    assert tree(server) == expected
    assert all(run.info.end_time < before for run in MlflowClient(server.address).search_runs(experiments(server)))
    assert not list((folder / SPOOL).iterdir())
    assert sync() == 0
    assert "no notes wait" in capsys.readouterr().out


def test_what_a_user_may_not_write_waits_until_the_user_may(
    server: Server, line: Line, folder: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    line.barred = 403
    stages()
    said = capsys.readouterr().out
    assert said.count("wait in .spacewarps/spool (this user may not write there; ") == 2
    assert sync() == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "this user may not write there" in complaint
    assert len(list((folder / SPOOL).iterdir())) == 2
    line.barred = None
    assert sync() == 0
    assert tree(server) == expected
    assert not list((folder / SPOOL).iterdir())


@pytest.fixture
def artifacts_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The server of the runs, whose artifacts cannot be written, though all else can; a call brings them back."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setattr(delivery, "_ATTEMPTS", 1)
    place, aside = server.folder / "artifacts", server.folder / "aside"
    place.mkdir(exist_ok=True)
    place.rename(aside)
    place.write_text("in the way")

    def bring_back() -> None:
        if aside.exists():
            place.unlink()
            aside.rename(place)

    yield bring_back
    bring_back()


def test_a_file_that_the_artifacts_cannot_take_waits_with_what_comes_after_it(
    server: Server,
    folder: Path,
    expected: dict[str, Any],
    artifacts_away: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages()
    assert (
        capsys.readouterr().out.count("wait in .spacewarps/spool (report.txt, an artifact of a run, could not be") == 2
    )
    for _ in range(2):
        assert sync() == 2
        told = capsys.readouterr().err
        assert (told.count("\n"), "report.txt, an artifact of a run, could not be stored" in told) == (1, True)
    artifacts_away()
    assert sync() == 0
    assert tree(server) == expected
    assert not list((folder / SPOOL).iterdir())


@pytest.mark.usefixtures("artifacts_away")
def test_a_file_that_can_never_be_stored_is_named_and_left_out_once_it_is_deleted(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages()
    assert sync() == 2
    (kept,) = (folder / SPOOL).glob("*/files/*/report.txt")
    assert f"delete {kept} to do without it" in capsys.readouterr().err
    kept.unlink()
    assert sync() == 0
    assert "report.txt was deleted before MLflow had it" in capsys.readouterr().out
    (pipeline,) = tree(server).values()
    assert {name: run["status"] for name, run in pipeline["below"].items()} == dict.fromkeys(
        ["search", "train"], "FINISHED"
    )


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (("runs/create",), "the run 'pipeline' could not be stored"),
        (("runs/log-batch", "runs/set-tag"), "the run 'pipeline' could not be stored"),
        (("runs/log-inputs", "runs/set-tag"), "what a run is to hold could not be stored"),
    ],
)
def test_what_a_server_cannot_write_while_it_answers_waits(
    server: Server,
    line: Line,
    folder: Path,
    expected: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.setattr(delivery, "_ATTEMPTS", 1)
    line.broken = broken
    stages()
    assert sync() == 2
    assert told in capsys.readouterr().err
    line.broken = ()
    assert sync() == 0
    assert tree(server) == expected
    assert not list((folder / SPOOL).iterdir())


def test_a_note_that_fails_while_the_like_is_written_is_left_out(
    server: Server,
    line: Line,
    expected: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_ATTEMPTS", 1)
    line.broken = ("runs/log-inputs",)
    stages()
    assert "MLflow could not store something" in capsys.readouterr().out
    line.broken = ()
    assert sync() == 0
    (found,), (whole,) = tree(server).values(), expected.values()
    assert (found.pop("data"), found["below"]["search"].pop("data")) == ([], [])
    whole = whole | {"below": {name: dict(run) for name, run in whole["below"].items()}}
    assert (whole.pop("data"), whole["below"]["search"].pop("data")) == (["1.dir"], ["1.dir"])
    assert found == whole


def test_a_user_whom_the_server_does_not_know_is_told_so(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.barred = 401
    with pytest.raises(TrackingError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as told:
        open_experiment(Path.cwd(), find_store(Path.cwd()), destination(find_store(Path.cwd()), Path.cwd()))
    assert "geheim" not in f"{told.value}{capsys.readouterr()}"


def test_the_next_stage_delivers_what_the_one_before_it_could_not(
    server: Server, line: Line, folder: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    line.allowed = 0
    stages()
    line.allowed = sys.maxsize
    monkeypatch.setenv("DVC_EXP_NAME", "later")
    with stage_run("evaluate", {}) as stage:
        client_of(stage.tracker)
    assert sync() == 0
    found = tree(server)
    assert found.pop("later")["below"].keys() == {"evaluate"}
    assert found == expected
    assert not list((folder / SPOOL).iterdir())


@pytest.mark.parametrize("lost", range(1, 40, 5))
def test_a_server_that_dies_as_it_answers_has_everything_once(
    server: Server, line: Line, folder: Path, expected: dict[str, Any], lost: int
) -> None:
    line.allowed = lost
    stages()
    # Deliveries that fail in turn, each a little further on.
    for _ in range(3):
        line.allowed = lost
        if sync() == 0:
            break
    line.allowed = sys.maxsize
    assert sync() == 0
    assert tree(server) == expected
    assert not list((folder / SPOOL).iterdir())


def test_a_slow_server_costs_the_stages_little_and_gets_everything(server: Server, line: Line) -> None:
    line.seconds = 0.3
    with stage_run("search", {}) as stage:
        start = time.monotonic()
        for number in range(50):
            stage.tracker.end_run(stage.tracker.start_run(f"step {number}", stage.run_id, {}))
        assert time.monotonic() - start < 1
    line.seconds = 0
    assert sync() == 0
    (pipeline,) = tree(server).values()
    assert len(pipeline["below"]["search"]["below"]) == 50


def test_a_server_that_stands_still_is_not_waited_for(
    server: Server, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    server.signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        stages()
        # Two seconds at the start of each stage, and five at most at its end.
        assert time.monotonic() - start < 2 * (2 + 5) + 3
    finally:
        server.signal(signal.SIGCONT)
    assert sync() == 0
    assert tree(server) == expected


def test_a_run_that_a_server_makes_late_does_not_stay(
    server: Server, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with stage_run("search", {}) as stage:
        client_of(stage.tracker)
        line.late = 4.0
        run = stage.tracker.start_run("step 1", stage.run_id, {})
        stage.tracker.log(run, metrics={"score": 1.0})
        time.sleep(6)
        found = len(MlflowClient(server.address).search_runs(experiments(server)))
    assert found == 4
    assert sync() == 0
    (pipeline,) = tree(server).values()
    assert pipeline["below"]["search"]["below"]["step 1"]["metrics"] == {"score": [(0, "1.0")]}


def test_notes_that_are_delivered_a_second_time_change_nothing(
    server: Server, line: Line, folder: Path, expected: dict[str, Any]
) -> None:
    line.allowed = 0
    stages()
    shutil.copytree(folder / SPOOL, folder / "copy")
    line.allowed = sys.maxsize
    for _ in range(2):
        assert sync() == 0
        assert tree(server) == expected
        shutil.copytree(folder / "copy", folder / SPOOL, dirs_exist_ok=True)


def test_two_that_sync_at_once_deliver_everything_once(
    server: Server, line: Line, folder: Path, expected: dict[str, Any]
) -> None:
    line.allowed = 0
    stages()
    wait_for_senders()
    line.allowed, line.seconds = sys.maxsize, 0.05
    command = [sys.executable, "-m", "spacewarps.cli", "sync"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert (said[0].split(" ", 1)[1], said[1]) == (
        f"notes delivered to {line.address}\n",
        f"no notes wait for {line.address}\n",
    )
    assert tree(server) == expected
    assert not list((folder / SPOOL).iterdir())


def test_a_sync_that_another_one_keeps_out_says_so_and_leaves_the_notes(
    line: Line, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line.allowed = 0
    stages()
    wait_for_senders()
    line.allowed = sys.maxsize
    monkeypatch.setattr(sync_command, "_PATIENCE_SECONDS", 0.2)
    capsys.readouterr()
    with alone_in(folder / SPOOL):
        assert sync() == 2
    told = capsys.readouterr().err
    assert "another process delivers them, or was stopped as it did; 0 delivered, " in told
    assert told.count("\n") == 1
    assert list((folder / SPOOL).iterdir())
    assert sync() == 0


def test_where_notes_cannot_be_kept_the_work_goes_on_and_a_server_hears_of_it(
    server: Server, line: Line, folder: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".spacewarps").write_text("in the way")
    stages()
    assert capsys.readouterr().out.count("notes for MLflow cannot be kept in .spacewarps/spool") == 2
    assert tree(server) == expected
    line.allowed = 0
    stages()
    assert "are lost" in capsys.readouterr().out


def test_what_a_killed_stage_and_a_killed_sync_leave_arrives_once(
    server: Server, line: Line, folder: Path, expected: dict[str, Any]
) -> None:
    line.allowed = 0
    subprocess.run(STAGES, check=True, capture_output=True)
    for reached in (8, 17):
        line.allowed, line.count = sys.maxsize, 0
        process = subprocess.Popen([sys.executable, "-m", "spacewarps.cli", "sync"], stdout=subprocess.DEVNULL)

        def kill(count: int, reached: int = reached, process: subprocess.Popen[bytes] = process) -> None:
            if count == reached:
                process.kill()

        line.heard = kill
        assert process.wait() == -signal.SIGKILL
    line.heard = lambda _count: None
    assert sync() == 0
    assert tree(server) == expected
    assert not list((folder / SPOOL).iterdir())


def test_a_stage_that_was_killed_without_a_server_shows_as_killed(server: Server, line: Line) -> None:
    line.allowed = 0
    done = subprocess.run([*STAGES, "killed"], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    line.allowed = sys.maxsize
    assert sync() == 0
    (pipeline,) = tree(server).values()
    (search,) = pipeline["below"].values()
    (step,) = search["below"].values()
    assert {run["status"] for run in (pipeline, search, step)} == {"KILLED"}
    assert {run["status"] for run in step["below"].values()} == {"FINISHED"}


def test_notes_of_a_stage_that_runs_are_left_to_it(
    server: Server, line: Line, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line.allowed = 0
    with stage_run("search", {}):
        line.allowed = sys.maxsize
        capsys.readouterr()
        assert main(["sync"]) == 0
        assert "no notes wait" in capsys.readouterr().out
        assert len(list((folder / SPOOL).iterdir())) == 1
    assert sync() == 0
    (pipeline,) = tree(server).values()
    assert pipeline["below"].keys() == {"search"}


def test_an_experiment_that_a_server_does_not_have_ends_the_stage_at_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line.count == 0
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(TrackingError, match="there is no such experiment"), stage_run("search", {}):
        pass


def test_notes_for_another_store_wait_for_it(
    server: Server, line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line.allowed = 0
    with stage_run("search", {}):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    assert sync() == 0
    told = capsys.readouterr().out
    assert f"notes for {line.address} go on waiting" in told
    assert tree(server) == {}


@pytest.mark.usefixtures("server")
def test_nobody_takes_the_notes_of_a_stage_that_lives(
    line: Line, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "999999")
    line.allowed = 0
    tracker = Tracker(folder)
    tracker.start_run("pipeline", None, {})
    line.allowed = sys.maxsize
    # The server, back again, has no such experiment: nothing more is sent.
    deadline = time.monotonic() + 60
    while tracker._sender.trouble is None or isinstance(tracker._sender.trouble, UnansweredError):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tracker._sender._thread.join(60)
    with taken(tracker.spool.folder, from_anywhere=True) as spool:
        assert spool is None
    tracker.close("FINISHED")
    with taken(tracker.spool.folder, from_anywhere=True) as spool:
        assert spool is not None
        assert len(spool.undelivered) == 2


@pytest.mark.usefixtures("server")
def test_a_note_that_cannot_be_kept_costs_none_that_are(
    line: Line, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line.allowed = 0
    tracker = Tracker(folder)
    run = tracker.start_run("pipeline", None, {})

    def disk_is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "_write", disk_is_full)
    tracker.log(run, metrics={"score": 1.0})
    tracker.close("FINISHED")
    said = capsys.readouterr().out
    assert said.count("No space left on device") == 1
    assert "wait in .spacewarps/spool, but for those that could not be kept" in said
    with taken(tracker.spool.folder, from_anywhere=True) as spool:
        assert spool is not None
        assert spool.undelivered[0].run == run


def test_what_a_full_disk_has_torn_is_not_taken_for_an_id(folder: Path) -> None:
    tracker = Tracker(folder)
    first, second = (tracker.start_run(name, None, {}) for name in ("one", "two"))
    client_of(tracker)
    shutil.copytree(tracker.spool.folder, folder / "copy")
    tracker.close("FINISHED")
    sent = folder / "copy" / "sent"
    (of_first, _of_second) = sent.read_text().splitlines()
    sent.write_text(f"{of_first}\n3f2a")
    with taken(folder / "copy", from_anywhere=True) as spool:
        # It is this process's, which lives, but nobody holds it.
        assert spool is not None
        assert spool.runs == {first: of_first}
        spool.delivered("the id of two")
        assert spool.runs[second] == "the id of two"
    assert sent.read_text() == f"{of_first}\nthe id of two\n"
