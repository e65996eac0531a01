import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from spacewarps.cli import main
from spacewarps.tracking import delivery
from spacewarps.tracking.notes import PARENT_TAG
from spacewarps.tracking.spool import UnreadableNotesError, taken
from spacewarps.tracking.store import Store
from spacewarps.tracking.tracker import Tracker
from spacewarps.tracking.waiting import SPOOL
from tests.processes import of_process
from tests.tracking.runs import all_runs, client_of, experiment_of, run_of
from tests.tracking.test_store import echo


@pytest.fixture
def left(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a stage has left, as if MLflow had not heard of it: two notes."""
    monkeypatch.chdir(tracked)
    tracker = Tracker(tracked)
    run = tracker.start_run("earlier", None, {})
    tracker.end_run(run)
    shutil.copytree(tracker.spool.folder, tracked / "copy")
    tracker.close("FINISHED")
    (tracked / "copy/sent").unlink(missing_ok=True)
    (tracked / "copy").rename(tracker.spool.folder)
    return tracker.spool.folder / "notes"


def of_format(notes: Path, number: object) -> None:
    header, *lines = notes.read_text().split("\n")
    values = {key: value for key, value in json.loads(header).items() if key != "format"}
    notes.write_text("\n".join([json.dumps(values if number is None else {"format": number, **values}), *lines]))


@pytest.mark.parametrize(("number", "told"), [(None, "has no number"), (0, "has number 0"), (999, "has number 999")])
def test_notes_of_another_version_are_refused_in_one_line_and_kept(
    left: Path, tracked: Path, capsys: pytest.CaptureFixture[str], number: object, told: str
) -> None:
    of_format(left, number)
    before = left.read_bytes()
    capsys.readouterr()
    assert main(["sync"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("no notes wait for sqlite:///mlflow.db\n", 1)
    assert f"another version wrote them (their format {told}" in said.err
    # A stage says so too, and its own notes arrive.
    tracker = Tracker(tracked)
    tracker.start_run("own", None, {})
    assert sorted(str(run.info.run_name) for run in all_runs(tracker)) == ["earlier", "own"]
    tracker.close("FINISHED")
    said = capsys.readouterr()
    assert (said.out.count("\n"), "another version wrote them" in said.out) == (1, True)
    assert left.read_bytes() == before
    of_format(left, 1)
    assert main(["sync"]) == 0
    assert not list((tracked / SPOOL).iterdir())


def test_a_damaged_note_costs_none_of_those_behind_it(left: Path) -> None:
    header, first, *rest = left.read_text().split("\n")
    left.write_text("\n".join([header, first[: len(first) // 2], *rest]))
    with (
        pytest.raises(UnreadableNotesError, match="line 2 of notes is damaged"),
        taken(left.parent, from_anywhere=True),
    ):
        pass
    assert left.exists()


def test_a_last_note_that_is_torn_was_never_written(left: Path) -> None:
    left.write_text(left.read_text()[:-20])
    with taken(left.parent, from_anywhere=True) as spool:
        assert spool is not None
        # The end that it lacks is added.
        assert [type(note).__name__ for note in spool.undelivered] == ["Start", "End"]
        assert spool.killed == 1


def test_a_folder_whose_notes_were_never_written_goes_after_an_hour(left: Path) -> None:
    def remains(minutes: float) -> bool:
        os.utime(left, (time.time() - 60 * minutes,) * 2)
        assert main(["sync"]) == 0
        return left.exists()

    left.write_text("")
    assert remains(50)
    left.write_text("")
    assert not remains(70)
    assert not left.parent.exists()


def test_the_notes_of_a_run_that_has_ended_are_on_the_disk(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, lines = os.fsync, []

    def note_and_flush(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "notes":
            lines.append(os.pread(descriptor, 1 << 20, 0).decode().splitlines())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note_and_flush)
    tracker = Tracker(tracked)
    run = tracker.start_run("one", None, {})
    tracker.log(run, metrics={"score": 1.0})
    tracker.end_run(run)
    tracker.close("FINISHED")
    assert [["note" in json.loads(line) for line in each] for each in lines] == [[False], [False, True, True, True]]
    assert json.loads(lines[-1][-1])["note"] == "End"


def with_path(notes: Path, path: str) -> None:
    """Put a note among the notes that stores a file."""
    header, *rest = notes.read_text().split("\n")
    run = json.loads(rest[0])["run"]
    line = json.dumps({"note": "Artifact", "run": run, "path": path, "time": 1})
    notes.write_text("\n".join([header, rest[0], line, *rest[1:]]))


def damage_sent(notes: Path) -> None:
    notes.with_name("sent").write_bytes(b"\xff\xfe\n")


def damage_run(notes: Path) -> None:
    header, *lines = notes.read_text().split("\n")
    lines[1] = json.dumps(json.loads(lines[1]) | {"run": ["a list"]})
    notes.write_text("\n".join([header, *lines]))


def damage_store(notes: Path) -> None:
    header, *lines = notes.read_text().split("\n")
    notes.write_text("\n".join([json.dumps(json.loads(header) | {"store": ["a list"]}), *lines]))


def name_a_file_outside(notes: Path) -> None:
    (notes.parents[3] / "secret").write_text("secret")
    with_path(notes, "../../../../secret")


def name_a_path_outside(notes: Path) -> None:
    with_path(notes, "/etc/hostname")


def link_to_a_file_outside(notes: Path) -> None:
    place = notes.parent / "files/1/folder"
    place.mkdir(parents=True)
    (place / "link").symlink_to("/etc/hostname")
    with_path(notes, "1/folder")


@pytest.mark.parametrize(
    "damage",
    [damage_sent, damage_run, damage_store, name_a_file_outside, name_a_path_outside, link_to_a_file_outside],
)
def test_damaged_notes_are_refused_in_one_line_and_hold_up_no_others(
    left: Path, tracked: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    damage(left)
    tracker = Tracker(tracked)
    tracker.start_run("own", None, {})
    assert sorted(str(run.info.run_name) for run in all_runs(tracker)) == ["earlier", "own"]
    tracker.close("FINISHED")
    assert "these notes for MLflow cannot be read, and are kept" in capsys.readouterr().out
    assert main(["sync"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("no notes wait for sqlite:///mlflow.db\n", 1)
    assert "damaged" in said.err
    assert left.exists()


def test_a_model_that_is_delivered_again_is_found_among_many(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracked)
    tracker = Tracker(tracked)
    run = tracker.start_run("trained", None, {})
    tracker.log_model(
        run, lambda path: mlflow.pyfunc.save_model(path=path, python_model=echo, pip_requirements=[]), tags={}
    )
    tracker.end_run(run)
    run_id, client = run_of(tracker, run).info.run_id, client_of(tracker)
    shutil.copytree(tracker.spool.folder, tracked / "copy")
    tracker.close("FINISHED")
    (tracked / "copy").rename(tracker.spool.folder)
    _, experiment_id = experiment_of(tracked)
    sent = tracker.spool.folder / "sent"
    sent.write_text(sent.read_text().splitlines(keepends=True)[0])
    for _ in range(100):
        client.create_logged_model(experiment_id, "model")
    assert main(["sync"]) == 0
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    assert len(found) == 1


def small_tree(tracker: Tracker) -> None:
    """Note a run with three below it, one in another, all of which have ended."""
    top = tracker.start_run("top", None, {})
    for name in ("one", "two"):
        run = tracker.start_run(name, top, {})
        tracker.log(run, metrics={"score": 1.0})
        if name == "two":
            tracker.end_run(tracker.start_run("below two", run, {}))
        tracker.end_run(run)
    tracker.end_run(top)


def tree(runs: list[Run]) -> dict[str, tuple[str, str | None, dict[str, float]]]:
    """Return the status, the name of the run above and the metrics of each run, by its name."""
    names = {run.info.run_id: str(run.info.run_name) for run in runs}
    assert len(set(names.values())) == len(names)
    above = {run.info.run_id: run.data.tags.get(PARENT_TAG) for run in runs}
    return {
        names[run.info.run_id]: (
            run.info.status,
            None if (parent := above[run.info.run_id]) is None else names[parent],
            run.data.metrics,
        )
        for run in runs
    }


WHOLE = {
    "top": ("FINISHED", None, {}),
    "one": ("FINISHED", "top", {"score": 1.0}),
    "two": ("FINISHED", "top", {"score": 1.0}),
    "below two": ("FINISHED", "two", {}),
}


@pytest.mark.parametrize("sent", [1, 5, 9])
def test_a_store_that_was_replaced_has_all_notes_from_the_first(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sent: int
) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    for folder in (before, now):
        folder.mkdir()
        shutil.copy(tables, folder / "mlflow.db")
    tracker = Tracker(before)
    small_tree(tracker)
    assert tree(all_runs(tracker)) == WHOLE
    left = now / tracker.spool.folder.relative_to(before)
    shutil.copytree(tracker.spool.folder, left)
    tracker.close("FINISHED")
    lines = (left / "sent").read_text().splitlines(keepends=True)
    (left / "sent").write_text("".join(lines[:sent]))
    monkeypatch.chdir(now)
    capsys.readouterr()
    assert main(["sync"]) == 0
    assert capsys.readouterr() == ("10 notes delivered to sqlite:///mlflow.db\n", "")
    client, experiment_id = experiment_of(now)
    assert tree(list(client.search_runs([experiment_id]))) == WHOLE
    assert not list((now / SPOOL).iterdir())


def test_a_store_that_is_replaced_while_a_stage_runs_has_all_its_notes(
    tracker: Tracker, tracked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = tracker.start_run("top", None, {})
    one = tracker.start_run("one", top, {})
    tracker.log(one, metrics={"score": 1.0})
    tracker.end_run(one)
    assert len(all_runs(tracker)) == 2
    with closing(sqlite3.connect(tracked / "mlflow.db")) as connection:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            connection.execute(f"DELETE FROM {table}")
        connection.commit()
    # It begins below a run that the store does not have.
    two = tracker.start_run("two", top, {})
    tracker.log(two, metrics={"score": 1.0})
    tracker.end_run(tracker.start_run("below two", two, {}))
    tracker.end_run(two)
    tracker.end_run(top)
    assert tree(all_runs(tracker)) == WHOLE
    tracker.close("FINISHED")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("is_killed", "status"), [(False, "FINISHED"), (True, "KILLED")])
def test_sync_says_of_no_run_that_it_was_killed_before_its_notes_have_arrived(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_killed: bool, status: str
) -> None:
    monkeypatch.chdir(tracked)
    tracker = Tracker(tracked)
    tracker._owner = of_process(os.getpid(), 1)
    run = tracker.start_run("top", None, {})
    run_id, client = run_of(tracker, run).info.run_id, client_of(tracker)
    if not is_killed:
        tracker.end_run(run)
        assert run_of(tracker, run).info.status == "FINISHED"
    shutil.copytree(tracker.spool.folder, tracked / "copy")
    tracker.close("FINISHED")
    # As if MLflow had gone away before the end.
    (tracked / "copy/sent").write_text(f"{run_id}\n")
    (tracked / "copy").rename(tracker.spool.folder)
    client.update_run(run_id, status="RUNNING")
    capsys.readouterr()
    assert main(["sync"]) == 0
    killed = "MLflow: 1 run is KILLED now, as the process that wrote there has ended\n" if is_killed else ""
    assert capsys.readouterr().out == f"{killed}1 note delivered to sqlite:///mlflow.db\n"
    assert client.get_run(run_id).info.status == status


def test_a_database_that_is_deleted_while_a_stage_runs_shows_no_traceback(
    tracker: Tracker, tracked: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_ATTEMPTS", 1)
    run = tracker.start_run("top", None, {})
    assert len(all_runs(tracker)) == 1
    for path in tracked.glob("mlflow.db*"):
        path.unlink()
    tracker.end_run(run)
    tracker.close("FINISHED")
    said = capfd.readouterr()
    assert "wait in .spacewarps/spool" in said.out
    assert "readonly database" in said.out
    assert said.err == ""


def name(uri: str) -> str:
    return Store(uri).public_name(Path("/project"))


def test_stores_that_only_their_options_tell_apart_have_names_of_their_own() -> None:
    server = "postgresql://me:geheim@/runs"
    one, other = (name(f"{server}?host=/{socket}&password=geheim") for socket in ("one", "other"))
    assert len({name(server), one, other}) == 3
    assert one == name(f"{server}?password=new&host=/one")
    assert "geheim" not in one
    assert "one" not in one
    assert name(f"{server}?password=geheim") == name(server) == "postgresql:///runs"


def test_how_a_file_is_opened_makes_no_other_store_of_it() -> None:
    assert name("sqlite:////project/a.db?timeout=5") == name("sqlite:////project/a.db") == "sqlite:///a.db"
