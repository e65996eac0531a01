"""The journal: every finished evaluation on disk, so that none is ever done twice."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from spacewarps.errors import ModelError, SpaceWarpsError
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.entries import SUFFIX, read_entry, write_entry
from spacewarps.search.sealed import sweep

_CLAIMS = "claims"


class JournalError(SpaceWarpsError):
    """The journal cannot be used."""


class Journal:
    """A journal that remembers nothing: every candidate is evaluated."""

    #: Whether it is told of every epoch of an evaluation, and not only of its last.
    every_epoch = False

    def find(self, key: str) -> Checkpoint | None:  # noqa: ARG002
        """Return how far the evaluation called ``key`` has come, in this search or an earlier one."""
        return None

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
        """Note how far an evaluation has come, durably and at once."""

    def claim(self, key: str) -> bool:  # noqa: ARG002
        """Say that this process evaluates ``key`` now; false if another one does."""
        return True

    def release(self, key: str) -> None:
        """Give a claim up."""


class FolderJournal(Journal):
    """A journal in a folder: one file for each candidate.

    A cache: deleting it, or any part of it, costs time and changes no result. Any number of searches may share it.
    An entry is written to a temporary file, synchronised to the disk and renamed; it carries its own hash, and one
    that is torn, altered or of another format counts as not there.

    Args:
        folder: made if it is not there.
        every_epoch: it is told of every epoch, so that an evaluation that was lost is resumed at its last.

    Raises:
        JournalError: it cannot be made or written to.
    """

    def __init__(self, folder: Path, *, every_epoch: bool = False) -> None:
        self.folder = folder
        self.every_epoch = every_epoch
        #: Why nothing more is written, once writing has failed.
        self.failure: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # One byte of this file stands for each key. The system drops a lock when its process ends, however it ends.
            self._claims = os.open(folder / _CLAIMS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            leads_nowhere = folder.is_symlink() and not folder.exists()
            why = f"the link leads to {folder.readlink()}, which is not there" if leads_nowhere else error.strerror
            raise JournalError(
                f"{folder}: the journal cannot be written ({why}); choose another folder (`journal`)"
            ) from None
        sweep(folder)

    def close(self) -> None:
        """Drop all claims."""
        os.close(self._claims)

    def find(self, key: str) -> Checkpoint | None:
        """Return how far the evaluation called ``key`` has come; nothing if its entry is missing or damaged."""
        checkpoint = _find(self.folder, key)
        if checkpoint is not None:
            with contextlib.suppress(OSError):
                # Pruning by age goes by the last use.
                os.utime(_path(self.folder, key))
        return checkpoint

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
        """Note how far an evaluation has come, durably and at once.

        A disk that is full or gone costs the entry and all later ones, never the search: ``failure`` says why.
        """
        if self.failure:
            return
        try:
            write_entry(_path(self.folder, key), key, evaluation, checkpoint)
        except OSError as error:
            self.failure = error.strerror or str(error)

    def claim(self, key: str) -> bool:
        """Say that this process evaluates ``key`` now; false if another one does."""
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
        except OSError as error:
            # Where the file system has no locks, two searches may do the same work, to the same bits.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def release(self, key: str) -> None:
        """Give a claim up."""
        with contextlib.suppress(OSError):
            fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _byte(key))


class ReadOnlyJournal(Journal):
    """What the journal in a folder knows, for one who only looks: no claim, no trace of a use, no folder made.

    Args:
        folder: of the journal; where there is none, nothing is known.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Checkpoint | None:
        """Return how far the evaluation called ``key`` has come; nothing if its entry is missing or damaged."""
        return _find(self._folder, key)


def _find(folder: Path, key: str) -> Checkpoint | None:
    try:
        return read_entry(_path(folder, key), key)
    except (OSError, ValueError, ModelError):
        return None


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}{SUFFIX}"


def _byte(key: str) -> int:
    return int(key[:15], 16)
