import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from spacewarps.processes import alone_in
from spacewarps.tracking import database as database_module
from spacewarps.tracking import experiment
from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.store import find_store
from spacewarps.tracking.tracker import Tracker
from spacewarps.tracking.ui import address
from tests.complaints import complaint
from tests.tracking.runs import all_runs
from tests.tracking.servers import wait_for_senders


@pytest.fixture
def database(tracked: Path) -> Path:
    tracker = Tracker(tracked)
    tracker.start_run("earlier", None, {})
    tracker.close("FINISHED")
    return tracked / "mlflow.db"


def set_version(database: Path, version: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.commit()


def refusal(folder: Path) -> str:
    told = complaint(TrackingError, Tracker, folder)
    assert "move" not in told
    return told


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.mkdir(), "a folder stands where the file should be"),
        (os.mkfifo, "a pipe or a device stands where the file should be"),
        (lambda path: path.write_bytes(b"no database" * 100), "it is no SQLite database"),
    ],
)
def test_what_is_no_database_is_said_at_once_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    path = tmp_path / "mlflow.db"
    make(path)
    before = path.lstat()
    assert f"{path}: MLflow's database cannot be used: {told}" in refusal(tmp_path)
    assert path.lstat().st_ino == before.st_ino


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/mlflow.db")
    assert "its folder is not there; make it" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_is_named_and_nothing_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").symlink_to("disk/runs/mlflow.db")
    (tmp_path / "disk").mkdir()
    told = (
        "it is a link to disk/runs/mlflow.db, which is not there; bring that back, or delete the link, or set MLFLOW_"
    )
    assert told in refusal(tmp_path)
    assert not list((tmp_path / "disk").iterdir())


def test_a_name_that_mlflow_will_not_have_is_told_as_that(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "x" * 600)
    told = refusal(tmp_path)
    assert told.startswith("MLFLOW_EXPERIMENT_NAME='xxxx")
    assert "exceeds the maximum length of 500 characters); set another" in told
    assert "MLFLOW_TRACKING_URI" not in told
    assert len(told) < 250


def test_a_full_disk_is_no_reason_to_end_what_else_uses_the_database(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_arguments: object, **_options: object) -> None:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA max_page_count = 1")
            connection.execute("CREATE TABLE more AS SELECT zeroblob(100000000)")

    monkeypatch.setattr(database_module, "follow_the_project", fill)
    assert "database or disk is full; make room on its disk, or set MLFLOW_TRACKING_URI" in refusal(tmp_path)


def test_a_database_of_an_older_mlflow_names_the_command_that_upgrades_it(database: Path, tmp_path: Path) -> None:
    set_version(database, "1b5f0d9ad7c1")
    told = refusal(tmp_path)
    assert "an older MLflow wrote it; make a copy of it" in told
    assert f"`mlflow db upgrade sqlite:///{database}`" in told


def test_a_database_of_a_newer_mlflow_asks_for_it(database: Path, tmp_path: Path) -> None:
    set_version(database, "abcdef012345")
    assert "a newer MLflow than" in refusal(tmp_path)


def test_a_database_of_another_program_is_not_written_to(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE studies (name)")
        connection.commit()
    before = (tmp_path / "mlflow.db").read_bytes()
    assert "the tables of another program" in refusal(tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "no permission to write in its folder" in refusal(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_processes_that_start_together_make_one_database(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spacewarps.tracking.tracker import Tracker; "
        "Tracker(Path(sys.argv[1])).close('FINISHED')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[1] for process in started] == ["", ""]


def test_a_process_that_is_killed_as_it_makes_the_database_leaves_none(tmp_path: Path) -> None:
    code = """
import itertools, os, signal
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from spacewarps.tracking.tracker import Tracker
number = itertools.count(1)
@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    if next(number) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
Tracker(Path.cwd())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    tracker = Tracker(tmp_path)
    tracker.start_run("next", None, {})
    tracker.close("FINISHED")
    assert [run.info.run_name for run in all_runs(tracker)] == ["next"]
    assert sorted(path.name for path in tmp_path.glob("*mlflow*")) == ["mlflow.db"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_LOCK_SECONDS", 0.5)
    monkeypatch.setattr(experiment, "_LOCK_SECONDS", 0.5)


def tracker_in_trouble(folder: Path) -> Tracker:
    """Start a run that the store cannot be told of, and wait until this is known."""
    tracker = Tracker(folder)
    tracker.start_run("own", None, {})
    deadline = time.monotonic() + 60
    while not tracker._sender.trouble:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return tracker


@pytest.mark.usefixtures("impatient")
def test_a_database_that_another_process_has_locked_does_not_end_the_work(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        tracker = tracker_in_trouble(tmp_path)
        tracker.close("FINISHED")
        said = capsys.readouterr().out
        assert "MLflow at sqlite:///mlflow.db does not answer (database is locked); the work goes on" in said
        assert "notes for MLflow (2) wait in .spacewarps/spool" in said
        connection.execute("ROLLBACK")
    wait_for_senders()
    later = Tracker(tmp_path)
    later.start_run("later", None, {})
    assert sorted(run.info.run_name for run in all_runs(later)) == ["earlier", "later", "own"]
    later.close("FINISHED")


@pytest.mark.usefixtures("impatient")
def test_a_process_that_was_stopped_as_it_opened_the_store_holds_up_nobody(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert database
    with alone_in(tmp_path):
        tracker = tracker_in_trouble(tmp_path)
    assert {run.info.run_name for run in all_runs(tracker)} == {"earlier", "own"}
    tracker.close("FINISHED")
    assert "does not answer (another process opens it, and does not come to an end)" in capsys.readouterr().out


def test_make_ui_shows_the_database_that_the_stages_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert address() == find_store(tmp_path).uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    with pytest.raises(TrackingError, match=r"open http://host:5000 in a browser"):
        address()
