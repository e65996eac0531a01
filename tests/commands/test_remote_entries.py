import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dvc.fs import MemoryFileSystem

from spacewarps.commands import remote_entries
from spacewarps.commands.remote_entries import RemoteEntries
from spacewarps.errors import SpaceWarpsError
from spacewarps.search.candidate import Checkpoint
from spacewarps.search.entries import Copied, Entries, FolderEntries, copy_entries
from spacewarps.search.journal import FolderJournal
from spacewarps.training.compute import Compute
from tests.complaints import complaint
from tests.search.checkpoints import HALF, NETWORK, OUTCOMES, WHOLE, evaluation_on

KEYS = [hashlib.sha256(name).hexdigest() for name in (b"one", b"other", b"third")]
LONG = Checkpoint(HALF.epochs * 1000, OUTCOMES[:1] * 1000, 17, NETWORK, bytes(2 * 10**6))


class Counted(io.BytesIO):
    def __init__(self, content: bytes, counts: list[int]) -> None:
        super().__init__(content)
        self.counts = counts

    def read(self, count: int | None = -1) -> bytes:
        content = super().read(count)
        self.counts.append(len(content))
        return content


class Watched(MemoryFileSystem):  # type: ignore[misc]
    """A file system of DVC's that knows how much was read of it, and whose renaming may fail."""

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.read: list[int] = []
        self.fault: Exception | None = None

    def open(self, path: str, mode: str = "r", **options: Any) -> Any:
        file = super().open(path, mode, **options)
        return Counted(file.getvalue(), self.read) if mode == "rb" else file

    def mv(self, from_info: str, to_info: str, **options: Any) -> None:
        if self.fault:
            raise self.fault
        # As not all replace what is there.
        assert not self.exists(to_info)
        super().mv(from_info, to_info, **options)

    def held(self) -> dict[str, bytes]:
        return {self.name(path): self.cat_file(path) for path in self.find("/pool")}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FolderJournal]:
    with closing(FolderJournal(tmp_path / "journal")) as journal:
        yield journal


@pytest.fixture
def files() -> Watched:
    return Watched()


def remote(files: Watched, **settings: str) -> RemoteEntries:
    return RemoteEntries("remote://lab", files, "/pool", settings)


def copied(source: Entries, target: Entries) -> Copied:
    return copy_entries(source, target, lambda _: None)


def write(journal: FolderJournal, compute: Compute, *checkpoints: Checkpoint) -> None:
    for key, checkpoint in zip(KEYS, checkpoints, strict=False):
        journal.write(key, evaluation_on(compute), checkpoint)


def names_and_bytes(journal: FolderJournal) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in journal.folder.glob("*.candidate")}


def test_what_is_pushed_is_pulled_elsewhere_with_the_same_bytes(
    journal: FolderJournal, files: Watched, compute: Compute, tmp_path: Path
) -> None:
    write(journal, compute, WHOLE, HALF, LONG)
    mine = FolderEntries(journal.folder)
    assert copied(mine, remote(files)) == Copied(new=3, known=0, damaged=0)
    assert files.held() == names_and_bytes(journal)
    with closing(FolderJournal(tmp_path / "other")) as other:
        assert copied(remote(files), FolderEntries(other.folder)) == Copied(new=3, known=0, damaged=0)
        assert names_and_bytes(other) == names_and_bytes(journal)


def test_of_what_both_know_only_headers_are_read(journal: FolderJournal, files: Watched, compute: Compute) -> None:
    write(journal, compute, LONG, WHOLE)
    mine = FolderEntries(journal.folder)
    copied(mine, remote(files))
    assert files.read == []
    for source, target in ((mine, remote(files)), (remote(files), mine)):
        assert copied(source, target) == Copied(new=0, known=2, damaged=0)
        # One header is longer than most, and so was asked for again.
        assert sorted(files.read) == [(journal.folder / f"{KEYS[1]}.candidate").stat().st_size, 1 << 14, 1 << 20]
        files.read.clear()


def test_what_has_come_further_takes_the_place_of_what_has_not(
    journal: FolderJournal, files: Watched, compute: Compute
) -> None:
    mine = FolderEntries(journal.folder)
    write(journal, compute, HALF)
    copied(mine, remote(files))
    write(journal, compute, WHOLE)
    assert copied(remote(files), mine) == Copied(new=0, known=1, damaged=0)
    assert copied(mine, remote(files)) == Copied(new=1, known=0, damaged=0)
    write(journal, compute, HALF)
    assert copied(mine, remote(files)) == Copied(new=0, known=1, damaged=0)
    assert copied(remote(files), mine) == Copied(new=1, known=0, damaged=0)
    assert journal.find(KEYS[0]) == WHOLE
    assert files.held() == names_and_bytes(journal)


@pytest.mark.parametrize("fault", ["torn", "empty", "no entry", "longer", "of another name"])
def test_a_damaged_one_is_not_pulled_and_a_sound_one_takes_its_place(
    journal: FolderJournal, files: Watched, compute: Compute, fault: str, tmp_path: Path
) -> None:
    write(journal, compute, WHOLE, HALF)
    name, other = (f"{key}.candidate" for key in KEYS[:2])
    good = names_and_bytes(journal)
    damaged = {
        "torn": good[name][:-1],
        "empty": b"",
        "no entry": b"<html>" * 10**6,
        "longer": good[name] + b"\n",
        "of another name": good[other],
    }[fault]
    files.makedirs("/pool")
    files.pipe_file(f"/pool/{name}", damaged)
    with closing(FolderJournal(tmp_path / "other")) as elsewhere:
        assert copied(remote(files), FolderEntries(elsewhere.folder)) == Copied(new=0, known=0, damaged=1)
        assert names_and_bytes(elsewhere) == {}
    assert copied(remote(files), FolderEntries(journal.folder)) == Copied(new=0, known=0, damaged=1)
    assert copied(FolderEntries(journal.folder), remote(files)) == Copied(new=2, known=0, damaged=0)
    assert files.held() == good


def test_one_that_is_altered_behind_its_header_is_not_pulled(
    journal: FolderJournal, files: Watched, compute: Compute, tmp_path: Path
) -> None:
    write(journal, compute, WHOLE)
    ((name, good),) = names_and_bytes(journal).items()
    files.makedirs("/pool")
    files.pipe_file(f"/pool/{name}", good[:-1] + bytes([good[-1] ^ 1]))
    with closing(FolderJournal(tmp_path / "other")) as elsewhere:
        assert copied(remote(files), FolderEntries(elsewhere.folder)) == Copied(new=0, known=0, damaged=1)
        assert names_and_bytes(elsewhere) == {}


def test_what_is_no_entry_is_left_alone(journal: FolderJournal, files: Watched, compute: Compute) -> None:
    write(journal, compute, WHOLE)
    copied(FolderEntries(journal.folder), remote(files))
    for name in ("notes.txt", "a.candidate", f".{KEYS[1]}.candidate", f"{KEYS[1]}.candidate/below", ".0.tmp"):
        files.pipe_file(f"/pool/{name}", b"mine")
    assert remote(files).names() == [f"{KEYS[0]}.candidate"]


def test_one_that_is_gone_since_it_was_listed_is_left_out(
    journal: FolderJournal, files: Watched, compute: Compute, tmp_path: Path
) -> None:
    write(journal, compute, WHOLE, WHOLE)
    mine = FolderEntries(journal.folder)
    copied(mine, remote(files))
    listed = remote(files)
    files.rm_file(f"/pool/{KEYS[0]}.candidate")
    with closing(FolderJournal(tmp_path / "other")) as elsewhere:
        assert copied(listed, FolderEntries(elsewhere.folder)) == Copied(new=1, known=0, damaged=1)
    assert copied(mine, listed) == Copied(new=1, known=1, damaged=0)


def test_an_upload_that_fails_leaves_nothing(journal: FolderJournal, files: Watched, compute: Compute) -> None:
    write(journal, compute, WHOLE, WHOLE)
    there, files.fault = remote(files), ConnectionError("the line is cut")
    assert "the line is cut" in complaint(SpaceWarpsError, copied, FolderEntries(journal.folder), there)
    assert files.held() == {}


def test_a_fault_is_one_line_without_secrets(
    journal: FolderJournal, files: Watched, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(journal, compute, WHOLE)
    monkeypatch.setenv("LAB_SESSION_TOKEN", "of the shell")
    there = remote(files, secret_access_key="a word of mine", url="http://me:word@lab/pool")
    files.fault = ValueError("bad header\nb'a word of mine' of the shell at http://me:word@lab/pool")
    told = complaint(SpaceWarpsError, copied, FolderEntries(journal.folder), there)
    assert "remote://lab cannot be used (bad header b'***' *** at http://me:***@lab/pool)" in told


def test_who_gives_no_answer_is_not_waited_for(files: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_entries, "_SECONDS", 0.2)
    monkeypatch.setattr(files, "ls", lambda *_, **__: threading.Event().wait())
    assert "no answer in time" in complaint(SpaceWarpsError, remote, files)
