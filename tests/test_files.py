import json
import multiprocessing
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from spacewarps.errors import SpaceWarpsError
from spacewarps.files import check_replaceable, outputs, replaced_directory

MARK = ".spacewarps.json"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def write_folder(path: Path, **files: str) -> None:
    with replaced_directory(path) as target:
        for name, text in files.items():
            (target / name).write_text(text, encoding="utf-8")


def write_file(path: Path, text: str) -> None:
    with outputs() as out:
        out.file(path).write_text(text, encoding="utf-8")


def fail_in_directory(path: Path, error: BaseException) -> None:
    with replaced_directory(path) as target:
        (target / "new").write_text("half", encoding="utf-8")
        raise error


def fail_in_file(path: Path, error: BaseException) -> None:
    with outputs() as out:
        out.file(path).write_text("half", encoding="utf-8")
        raise error


def test_a_folder_takes_the_place_of_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    with replaced_directory(tmp_path / "out") as target:
        (target / "deep").mkdir()
        (target / "deep" / "old").write_text("old", encoding="utf-8")
    with replaced_directory(tmp_path / "out") as target:
        (target / "new").write_text("new", encoding="utf-8")
        assert content(tmp_path / "out") == {"deep/old": "old"}
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == [MARK, "new"]


def test_a_folder_and_its_parents_are_made(tmp_path: Path) -> None:
    with replaced_directory(tmp_path / "a" / "b") as target:
        (target / "new").touch()
    assert names(tmp_path / "a") == ["b"]


@pytest.mark.parametrize("fail", [fail_in_directory, fail_in_file])
def test_a_failure_leaves_none_of_the_folders_that_were_made(
    tmp_path: Path, fail: Callable[[Path, BaseException], None]
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(OSError, match="gone"):
        fail(tmp_path / "mine/a/b/out", OSError("gone"))
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_folder_takes_the_place_of_an_empty_one_whatever_made_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", new="new")
    assert content(tmp_path) == {"out/new": "new"}


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_folder_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    write_folder(tmp_path / "out", old="old")
    with pytest.raises(type(error)):
        fail_in_directory(tmp_path / "out", error)
    assert names(tmp_path) == ["out"]
    assert content(tmp_path / "out") == {"old": "old"}


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(error)):
        fail_in_file(path, error)
    assert names(tmp_path) == ["out.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_file(path, "old")
    with outputs() as out:
        out.file(path).write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["out.txt"]


def delivered(place: Path) -> None:
    (place / "catalog").mkdir(parents=True)
    (place / "catalog" / "cat.csv").write_text("mine", encoding="utf-8")


def dropped_into_an_output(place: Path) -> None:
    write_folder(place, samples="ours")
    (place / "cat.csv").write_text("mine", encoding="utf-8")


def dropped_deep_into_an_output(place: Path) -> None:
    with replaced_directory(place) as target:
        (target / "images").mkdir()
        (target / "images" / "1.png").touch()
    (place / "images" / "cat.csv").write_text("mine", encoding="utf-8")


def linked_from_an_output(place: Path) -> None:
    write_folder(place, samples="ours")
    delivered(place.parent / "elsewhere")
    (place / "cat.csv").symlink_to(place.parent / "elsewhere")


def behind_a_link(place: Path) -> None:
    delivered(place.parent / "elsewhere")
    place.symlink_to(place.parent / "elsewhere")


def damaged_mark(place: Path) -> None:
    delivered(place)
    (place / "catalog" / "cat.csv").rename(place / "cat.csv")
    (place / MARK).write_text('{"holds": {"cat.csv": 5', encoding="utf-8")


def mark_that_is_a_pipe(place: Path) -> None:
    delivered(place)
    (place / "catalog" / "cat.csv").rename(place / "cat.csv")
    os.mkfifo(place / MARK)


@pytest.mark.parametrize(
    "make",
    [
        delivered,
        dropped_into_an_output,
        dropped_deep_into_an_output,
        linked_from_an_output,
        behind_a_link,
        damaged_mark,
        mark_that_is_a_pipe,
    ],
)
def test_a_folder_that_holds_what_was_not_written_here_is_refused_before_the_work(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "out")
    before = content(tmp_path)
    with (
        pytest.raises(SpaceWarpsError, match=r"out would be replaced as a whole, but it holds '.*'"),
        replaced_directory(tmp_path / "out"),
    ):
        pytest.fail("the work must not begin")
    assert content(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def test_what_a_user_adds_during_the_work_is_not_lost_either(tmp_path: Path) -> None:
    def work() -> None:
        with replaced_directory(tmp_path / "out") as target:
            (target / "new").touch()
            (tmp_path / "out" / "notes").write_text("mine", encoding="utf-8")

    write_folder(tmp_path / "out", old="old")
    with pytest.raises(SpaceWarpsError, match=r"it holds 'notes', which was not written"):
        work()
    assert content(tmp_path) == {"out/old": "old", "out/notes": "mine"}


def test_an_output_that_lost_files_is_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", a="old", b="old")
    (tmp_path / "out" / "b").unlink()
    write_folder(tmp_path / "out", a="new")
    assert content(tmp_path) == {"out/a": "new"}


def test_a_mark_names_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    with replaced_directory(tmp_path / "out") as target:
        (target / "deep").mkdir()
        (target / "deep" / "b").touch()
        write_folder(target / "deep" / "marked", c="c")
        (target / "a").touch()
    mark = json.loads((tmp_path / "out" / MARK).read_text(encoding="utf-8"))
    assert mark["holds"] == ["a", "deep/b", f"deep/marked/{MARK}", "deep/marked/c"]
    check_replaceable(tmp_path / "out")


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large disk")
    for text in ("old", "new"):
        write_folder(tmp_path / "out", file=text)
        assert (tmp_path / "out").is_symlink()
        assert content(tmp_path / "large disk") == {"file": text}
    assert names(tmp_path) == ["large disk", "out"]


def test_a_file_takes_no_folders_place_and_a_folder_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    delivered(tmp_path / "folder")
    with pytest.raises(SpaceWarpsError, match="file is a file, but a folder is to be written there"):
        write_folder(tmp_path / "file")
    with pytest.raises(SpaceWarpsError, match="folder is a folder, but a file is to be written there"):
        write_file(tmp_path / "folder", "new")
    assert content(tmp_path) == {"file": "mine", "folder/catalog/cat.csv": "mine"}


def write_three(place: Path, text: str) -> None:
    with outputs() as out:
        (out.folder(place / "model") / "weights").write_text(text[:100], encoding="utf-8")
        out.file(place / "plots" / "a.csv").write_text(text[:100], encoding="utf-8")
        out.file(place / "a.json").write_text(text, encoding="utf-8")
        if text == "failing":
            raise ValueError


THREE = {"model/weights": "old", "plots/a.csv": "old", "a.json": "old"}


def test_outputs_appear_together_at_the_end(tmp_path: Path) -> None:
    write_three(tmp_path, "old")
    with outputs() as out:
        (out.folder(tmp_path / "model") / "weights").write_text("new", encoding="utf-8")
        out.file(tmp_path / "a.json").write_text("new", encoding="utf-8")
        written = {name: text for name, text in content(tmp_path).items() if not name.startswith(".")}
        assert written == THREE
    assert content(tmp_path) == {"model/weights": "new", "plots/a.csv": "old", "a.json": "new"}


def test_a_failure_in_the_work_leaves_all_outputs_as_they_were(tmp_path: Path) -> None:
    write_three(tmp_path, "old")
    with pytest.raises(ValueError, match=r"^$"):
        write_three(tmp_path, "failing")
    assert content(tmp_path) == THREE


@pytest.mark.parametrize("before", [{}, THREE], ids=["nothing stood there", "earlier outputs stood there"])
def test_a_place_that_cannot_be_taken_leaves_all_outputs_as_they_were(tmp_path: Path, before: dict[str, str]) -> None:
    def work() -> None:
        with outputs() as out:
            (out.folder(tmp_path / "model") / "weights").write_text("new", encoding="utf-8")
            out.file(tmp_path / "b.csv").write_text("new", encoding="utf-8")
            out.file(tmp_path / "a.json").write_text("new", encoding="utf-8")
            (tmp_path / "a.json").unlink(missing_ok=True)
            (tmp_path / "a.json").mkdir()

    if before:
        write_three(tmp_path, "old")
    with pytest.raises(SpaceWarpsError, match=r"a\.json is a folder"):
        work()
    (tmp_path / "a.json").rmdir()
    assert content(tmp_path) == {name: text for name, text in before.items() if name != "a.json"}


def test_a_disk_that_is_full_leaves_all_outputs_as_they_were(tmp_path: Path) -> None:
    write_three(tmp_path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_three(tmp_path, "new " * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(tmp_path) == THREE


def _write_until_killed(place: Path) -> None:
    with outputs() as out:
        (out.folder(place) / "new").write_text("half", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_next_run_deletes_what_a_killed_one_left_and_not_what_another_writes(tmp_path: Path) -> None:
    (tmp_path / ".out.mine").mkdir()
    (tmp_path / ".out.mine" / "file").write_text("mine", encoding="utf-8")
    killed = multiprocessing.get_context("fork").Process(target=_write_until_killed, args=(tmp_path / "out",))
    killed.start()
    killed.join()
    (left,) = set(names(tmp_path)) - {".out.mine"}
    with replaced_directory(tmp_path / "out") as one:
        (one / "file").write_text("one", encoding="utf-8")
        assert left not in names(tmp_path)
        write_folder(tmp_path / "out", file="another")
        assert (one / "file").exists()
    assert content(tmp_path) == {"out/file": "one", ".out.mine/file": "mine"}


def test_an_output_that_a_killed_run_had_moved_aside_comes_back(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", old="old")
    aside = tmp_path / ".out.abcd1234.tmp"
    aside.mkdir()
    (tmp_path / "out").rename(aside / "out.old")
    with pytest.raises(ValueError, match=r"^$"):
        fail_in_directory(tmp_path / "out", ValueError())
    assert content(tmp_path) == {"out/old": "old"}


def test_outputs_have_the_permissions_of_any_other_new_one(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with replaced_directory(tmp_path / "out"):
            pass
        write_file(tmp_path / "out.txt", "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o644


def test_a_roll_back_that_fails_for_one_output_restores_the_others_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(tmp_path, "old")
    rename = Path.rename

    def another_program_takes_the_place_of_the_model(source: Path, target: Path) -> Path:
        if source.name == "model" and target == tmp_path / "model":
            target.mkdir()
            (target / "theirs").touch()
        return rename(source, target)

    def work() -> None:
        with outputs() as out:
            out.file(tmp_path / "a.json").write_text("new", encoding="utf-8")
            (out.folder(tmp_path / "model") / "weights").write_text("new", encoding="utf-8")

    monkeypatch.setattr(Path, "rename", another_program_takes_the_place_of_the_model)
    with pytest.raises(OSError, match="not empty"):
        work()
    monkeypatch.undo()
    for _ in range(2):
        assert {text for name, text in content(tmp_path).items() if name.startswith(".model.")} == {"old", "new"}
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == "old"
        assert (tmp_path / "model" / "theirs").exists()
        # The next run finds the content that could not go back, and leaves it too.
        with pytest.raises(SpaceWarpsError, match="which was not written"):
            write_folder(tmp_path / "model", weights="newer")
