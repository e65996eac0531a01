"""Notes on their way to MLflow, kept in the project's folder until they are there.

Each stage has a folder of its own in ``.spacewarps/spool``. The file ``notes`` says in its first line in which format
they are, whose they are and where they go; each further line is a note. The file ``sent`` has a line for each note that
was delivered, with the id that MLflow gave to the run where the note begins one. ``files`` holds what is to be stored
with the runs.

The stage locks its notes for as long as it lives, so that whoever gets the lock knows that it has ended, and is the
only one to deliver them.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil
from pydantic import TypeAdapter

from spacewarps.processes import has_ended, name_of
from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.notes import RUN_TAG, Artifact, End, Model, Note, Reused, Start, as_line, from_line

_NOTES, _SENT, _FILES = "notes", "sent", "files"
# Another one for each change of the header, of the notes or of what stands beside them.
_FORMAT = 1
# What has no notes after as long was left by a process that ended while it made or removed it.
_LEFTOVER_SECONDS = 3600.0


class UnreadableNotesError(TrackingError):
    """Notes are of another version's format, or damaged; they are kept."""


@dataclass(frozen=True)
class Destination:
    """Where notes go.

    Args:
        store: the store, by a name without passwords.
        experiment: the name of the experiment; None for the project's own.
        number: its id in the store.
    """

    store: str
    experiment: str | None = None
    number: str | None = None


_DESTINATION = TypeAdapter(Destination)


class Spool:
    """The notes of one stage.

    Attributes:
        destination: where they go.
        undelivered: those that MLflow does not have, the oldest first.
        runs: the ids that MLflow gave, by those in the notes.
        shared: those in the notes of runs that other stages write to as well.
        uncertain: whether the first of the undelivered may have reached MLflow already.
        suspect: whether any has been that.
        killed: how many runs the stage left open.
        began_anew: whether its delivery has started over.
    """

    def __init__(self, folder: Path, destination: Destination, lock: int) -> None:
        self.folder, self.destination = folder, destination
        self.undelivered: deque[Note] = deque()
        self.runs: dict[str, str] = {}
        self.shared: set[str] = set()
        self.uncertain = self.suspect = False
        self.killed = 0
        self.began_anew = False
        self._lock = lock
        self._always_uncertain = False
        self._delivered = 0
        # The ends of runs that the stage left open, which do not stand in its file.
        self._ends: list[Note] = []
        # Not once it could not be written: a line may be torn then, and nothing may follow it.
        self._writable = {_NOTES: True, _SENT: True}
        self._kept = 0

    @classmethod
    def create(cls, place: Path, destination: Destination) -> Self:
        """Make a spool of this process in the folder ``place``.

        Raises:
            OSError: it cannot be written.
        """
        folder = place / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        try:
            lock = os.open(folder / _NOTES, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with contextlib.suppress(OSError):
                # Where the system has no locks, the name of the owner says whether it lives.
                fcntl.flock(lock, fcntl.LOCK_EX)
            header = {"format": _FORMAT, "owner": name_of(psutil.Process()), **asdict(destination)}
            (folder / _NOTES).write_text(json.dumps(header) + "\n", encoding="utf-8")
            _flush(lock)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(folder, destination, lock)

    def append(self, note: Note) -> None:
        """Add a note; with the end of a run, all that came before it is on the disk, whatever happens to the machine.

        Raises:
            OSError: it could not be written, nor will those that follow; it is delivered while this process lives.
        """
        self._note_if_shared(note)
        self.undelivered.append(note)
        self._write(_NOTES, as_line(note))
        if isinstance(note, End):
            _flush(self._lock)

    def _note_if_shared(self, note: Note) -> None:
        if isinstance(note, Start) and note.found_by != RUN_TAG:
            self.shared.add(note.run)

    def keep(self, path: Path) -> str:
        """Copy a file or a folder, as it is now, and return the name of the copy.

        Raises:
            OSError: it could not be copied.
        """
        name, place = self.new_name(path.name)
        if path.is_dir():
            shutil.copytree(path, place)
        else:
            shutil.copyfile(path, place)
        return name

    def new_name(self, name: str) -> tuple[str, Path]:
        """Return a name for what is to be stored, and the path at which to write it.

        Raises:
            OSError: its folder cannot be made.
        """
        self._kept += 1
        place = self.kept(f"{self._kept}/{name}")
        place.parent.mkdir(parents=True)
        return f"{self._kept}/{name}", place

    def kept(self, name: str) -> Path:
        """Return where the copy of that name lies.

        Raises:
            ValueError: somebody has made the name, or a link, that leads out of the copies.
        """
        place = self.folder / _FILES / name
        if not place.resolve().is_relative_to(self.folder.resolve() / _FILES):
            raise ValueError(f"{name!r:.60} is no file of these notes")
        return place

    def _check_copies(self, note: Note) -> None:
        if isinstance(note, Artifact | Model):
            for path in self.kept(note.path).rglob("*"):
                self.kept(str(path.relative_to(self.folder / _FILES)))

    def delivered(self, run_id: str | None) -> None:
        """Note that the first of the undelivered was delivered, and the id that MLflow gave if it begins a run."""
        note = self.undelivered[0]
        if isinstance(note, Start | Reused) and run_id is not None:
            self.runs[note.run] = run_id
        with contextlib.suppress(OSError):
            # It would be delivered again then, and no run is written twice by that.
            self._write(_SENT, f"{run_id or '-'}\n")
        self.undelivered.popleft()
        self._delivered += 1
        self.uncertain = self._always_uncertain

    def begin_anew(self) -> None:
        """Take for undelivered all that was delivered, as the store that had it is no longer there.

        Raises:
            UnreadableNotesError: the notes have been damaged meanwhile.
        """
        self.began_anew = True
        with contextlib.suppress(OSError):
            lines = (self.folder / _NOTES).read_text(encoding="utf-8", errors="replace").split("\n")[1:]
            # Of its own notes, the last may be under way to the file.
            again = [*self._notes_in(lines[: self._delivered + 1]), *self._ends][: self._delivered]
            self.undelivered.extendleft(reversed(again))
        with contextlib.suppress(OSError):
            (self.folder / _SENT).unlink(missing_ok=True)
        self.runs.clear()
        self._delivered = 0
        # What was begun since the store is another one is there already.
        self._always_uncertain = self.uncertain = self.suspect = True

    def _write(self, name: str, line: str) -> None:
        if not self._writable[name]:
            return
        try:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:
            self._writable[name] = False
            raise

    def discard(self) -> None:
        """Remove all of it, the notes first: what is left of a removal is no spool."""
        with contextlib.suppress(OSError):
            (self.folder / _NOTES).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        """Leave the rest to whoever takes it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _read(self, lines: list[str]) -> None:
        """Take up the notes of another process, an end of the runs that it left open among them.

        Raises:
            UnreadableNotesError: a line is no note, or what stands beside the notes is damaged.
        """
        notes = self._notes_in(lines)
        for note in notes:
            self._note_if_shared(note)
        began = [note for note in notes if isinstance(note, Start)]
        ended = {note.run for note in notes if isinstance(note, End)}
        left_open = [note.run for note in reversed(began) if note.run not in ended]
        self.killed = len(left_open)
        # When it was killed nobody knows; it lived when it wrote its last note.
        self._ends = [End(run, "KILLED", notes[-1].time) for run in left_open]
        notes += self._ends
        sent: list[str] = []
        with contextlib.suppress(OSError):
            try:
                *sent, torn = (self.folder / _SENT).read_text(encoding="utf-8").split("\n")
            except UnicodeDecodeError:
                raise _unreadable(self.folder, f"{_SENT} is damaged", "delete the folder") from None
            if torn:
                # What follows it would be read as its end.
                os.truncate(self.folder / _SENT, sum(len(line) + 1 for line in sent))
        for note, run_id in zip(notes, sent, strict=False):
            if isinstance(note, Start | Reused) and run_id != "-":
                self.runs[note.run] = run_id
        self.undelivered.extend(notes[len(sent) :])
        self._delivered = min(len(sent), len(notes))
        # Of what another process has sent, not all need stand in its file.
        self._always_uncertain = self.uncertain = self.suspect = True

    def _notes_in(self, lines: list[str]) -> list[Note]:
        notes: list[Note] = []
        # Where the process, or its machine, ended while it wrote, the last line is torn.
        for number, line in enumerate(lines[:-1], start=2):
            try:
                note = from_line(line)
                self._check_copies(note)
                notes.append(note)
            except (ValueError, RuntimeError) as error:
                # Links that lead to each other are the latter.
                raise _unreadable(
                    self.folder, f"line {number} of {_NOTES} is damaged ({error!s:.80})", "delete the folder"
                ) from None
        return notes


def spools(place: Path) -> list[Path]:
    """Return the folders of all spools, the oldest first."""
    return sorted(folder for folder in place.iterdir() if folder.is_dir()) if place.is_dir() else []


@contextmanager
def taken(folder: Path, *, from_anywhere: bool) -> Iterator[Spool | None]:
    """Take the spool of a process that has ended; gives nothing if it lives, or if another has taken it.

    Args:
        folder: that of the spool.
        from_anywhere: also that of another machine or container, if its lock is free.

    Raises:
        UnreadableNotesError: its notes are of another version's format, or damaged.
    """
    spool = None
    try:
        lock = os.open(folder / _NOTES, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            _remove_leftover(folder, since=folder.stat().st_mtime)
        yield None
        return
    except OSError:
        # It may be there another time.
        yield None
        return
    try:
        spool = _locked(folder, lock, from_anywhere=from_anywhere)
        yield spool
    finally:
        os.close(lock)


def _locked(folder: Path, lock: int, *, from_anywhere: bool) -> Spool | None:
    locks = True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        locks = False
    if os.fstat(lock).st_nlink == 0:
        # Who had the lock before has delivered and removed it.
        return None
    header, *lines = (folder / _NOTES).read_text(encoding="utf-8", errors="replace").split("\n")
    if not lines:
        # The process has yet to write it, or could not, or the machine lost power at once.
        _remove_leftover(folder, since=os.fstat(lock).st_mtime)
        return None
    ended, destination = _read_header(folder, header)
    # A process that lives has left its spool if it is not locked.
    if not (ended or (locks and (from_anywhere or ended is False))):
        return None
    spool = Spool(folder, destination, lock)
    spool._read(lines)
    return spool


def _remove_leftover(folder: Path, *, since: float) -> None:
    if time.time() - since > _LEFTOVER_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)


def _flush(file: int) -> None:
    """Wait until what was written to an open file is on the disk, as far as the system can say."""
    with contextlib.suppress(OSError):
        os.fsync(file)


def _read_header(folder: Path, header: str) -> tuple[bool | None, Destination]:
    """Return whether the process that wrote the notes has ended, and where they go."""
    try:
        values = json.loads(header)
        found = values.pop("format", None)
        if found == _FORMAT:
            return has_ended(values.pop("owner")), _DESTINATION.validate_python(asdict(Destination(**values)))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise _unreadable(folder, f"the first line of {_NOTES} is damaged", "delete the folder") from None
    which = "no number" if found is None else f"number {found!r:.20}"
    raise _unreadable(
        folder,
        f"another version wrote them (their format has {which}, that of this version is {_FORMAT})",
        "run `spacewarps sync` of that version, or delete the folder",
    )


def _unreadable(folder: Path, what: str, advice: str) -> UnreadableNotesError:
    return UnreadableNotesError(f"{folder}: these notes for MLflow cannot be read, and are kept: {what}; {advice}")
