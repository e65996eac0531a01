"""Writing files and folders so that a reader never sees half of one, and nothing is lost that was not written here."""

import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spacewarps.errors import SpaceWarpsError

MARK = ".spacewarps.json"
"""The file in each folder written here that names all others: only what it names may be replaced."""

_SCRATCH_SUFFIX = ".tmp"


class Outputs:
    """The files and folders that one piece of work writes; see :func:`outputs`."""

    def __init__(self) -> None:
        self._outputs: list[_Output] = []
        self._made: list[Path] = []

    def folder(self, path: Path) -> Path:
        """Return an empty folder that takes the place of ``path`` with the other outputs.

        Where ``path`` is a link, the folder behind it is replaced.

        Raises:
            SpaceWarpsError: what stands there was not written here.
        """
        check_replaceable(path)
        output = self._output(Path(os.path.realpath(path)), is_folder=True)
        output.new.mkdir()
        return output.new

    def file(self, path: Path) -> Path:
        """Return the name of a file that takes the place of ``path`` with the other outputs.

        Raises:
            SpaceWarpsError: a folder stands there.
        """
        _refuse_folder(path)
        return self._output(path, is_folder=False).new

    def _output(self, place: Path, *, is_folder: bool) -> "_Output":
        self._made += [parent for parent in reversed(place.parents) if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        output = _Output(place, is_folder=is_folder)
        self._outputs.append(output)
        return output

    def _put_in_place(self) -> None:
        for output in self._outputs:
            output.finish()
        started: list[_Output] = []
        try:
            for output in self._outputs:
                started.append(output)
                output.put()
        except BaseException:
            for output in reversed(started):
                # One that cannot be taken back is no reason to leave the others.
                with suppress(OSError):
                    output.take_back()
            raise

    def _tidy(self) -> None:
        for output in self._outputs:
            output.tidy()
        for folder in reversed(self._made):
            # One that holds something stays.
            with suppress(OSError):
                folder.rmdir()


class _Output:
    """One place, and the hidden folder beside it where its new content waits and its old content goes."""

    def __init__(self, place: Path, *, is_folder: bool) -> None:
        _sweep(place)
        self._place, self._is_folder = place, is_folder
        self._scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=_SCRATCH_SUFFIX, dir=place.parent))
        # Held until the end, also by a process that is killed: whoever sweeps sees that somebody is still at work.
        self._lock = os.open(self._scratch, os.O_RDONLY)
        _lock(self._lock)
        self.new = self._scratch / place.name
        self._old = _old_content(self._scratch, place)
        self._keeps_old = False

    def finish(self) -> None:
        """Mark a folder as written here."""
        if self._is_folder:
            mark = {"what": "Space Warps replaces this folder as a whole", "holds": sorted(_files(self.new) - {MARK})}
            (self.new / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")

    def put(self) -> None:
        """Let the new content take the place of the old."""
        # Again, as the work may have taken hours.
        if self._is_folder:
            check_replaceable(self._place)
        else:
            _refuse_folder(self._place)
        if os.path.lexists(self._place):
            self._place.rename(self._old)
        self.new.rename(self._place)

    def take_back(self) -> None:
        """Undo :meth:`put`, however far it came."""
        self._keeps_old = os.path.lexists(self._old)
        if not os.path.lexists(self.new) and os.path.lexists(self._place):
            self._place.rename(self.new)
        if os.path.lexists(self._old):
            # It fails where another program has taken the place in between.
            self._old.rename(self._place)
        self._keeps_old = False

    def tidy(self) -> None:
        """Delete what is not in its place, but for old content that could not go back."""
        if not self._keeps_old:
            shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def outputs() -> Iterator[Outputs]:
    """Hand out temporary names whose content appears together, in its place, when the block ends without an error.

    If the block raises, or one of the places cannot be taken, all that stood there before is as it was,
    and the folders that were made for them are gone.
    """
    out = Outputs()
    try:
        yield out
        out._put_in_place()
    finally:
        out._tidy()


@contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of ``path`` when the block ends without an error.

    What stood at ``path`` before is untouched if the block raises.

    Raises:
        SpaceWarpsError: what stands there was not written here.
    """
    with outputs() as out:
        yield out.folder(path)


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything which was not written here.

    Raises:
        SpaceWarpsError: naming the first such file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SpaceWarpsError(
            f"{folder} is a file, but a folder is to be written there; move it, or name another folder"
        )
    foreign = _files(folder) - _named_by(folder / MARK)
    if foreign:
        raise SpaceWarpsError(
            f"{folder} would be replaced as a whole, but it holds {min(foreign)!r:.100}, which was not written by the "
            "stage that replaces it; move or delete what is there, or name another folder"
        )


def _refuse_folder(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        raise SpaceWarpsError(f"{file} is a folder, but a file is to be written there; move it, or name another")


def _files(folder: Path) -> set[str]:
    """Return all below ``folder`` that is no folder, relative to it."""
    found = set()
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if Path(where, name).is_symlink()]
        found |= {Path(where, name).relative_to(folder).as_posix() for name in (*files, *links)}
    return found


def _named_by(mark: Path) -> set[str]:
    """Return what a mark names, itself included; nothing where it is none."""
    try:
        return {MARK, *json.loads(mark.read_text(encoding="utf-8"))["holds"]} if mark.is_file() else set()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()


def _sweep(place: Path) -> None:
    """Delete what killed processes have left beside ``place``; what they had moved aside goes back."""
    for scratch in place.parent.glob(f".{glob.escape(place.name)}.{'?' * 8}{_SCRATCH_SUFFIX}"):
        with suppress(OSError):
            # An empty one may be another process's that has not locked it yet.
            if not any(scratch.iterdir()):
                continue
            descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _lock(descriptor):
                    old, new = _old_content(scratch, place), scratch / place.name
                    if os.path.lexists(old) and not os.path.lexists(place):
                        old.rename(place)
                    # With both there, the place was taken by another program before the new content could be.
                    if not (os.path.lexists(old) and os.path.lexists(new)):
                        shutil.rmtree(scratch)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Return whether the lock could be had; a file system that has none says no."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _old_content(scratch: Path, place: Path) -> Path:
    return scratch / f"{place.name}.old"
