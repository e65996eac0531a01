"""Processes of this and other machines, told from each other for as long as anyone remembers them."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# Of proc_pid_stat(5), counted from behind the name in parentheses.
_STATE, _START = 0, 19
_PAUSE_SECONDS = 0.05


def name_of(process: psutil.Process) -> str:
    """Return what tells a process from any other: its machine, since when that runs, its number and its start.

    The start is in ticks since that of the machine, which no clock that is set can change.

    Raises:
        psutil.Error: it has ended, or the system hides it.
    """
    return f"{_machine()} {_start_of_machine()} {process.pid} {_stat_of(process.pid)[_START]}"


def has_ended(name: str) -> bool | None:
    """Say whether the process of that name has ended; nothing where nobody here can tell, as on another machine."""
    try:
        machine, start_of_machine, number, start = name.split(" ")
        if machine != _machine():
            return None
        if start_of_machine != _start_of_machine():
            return True
        now = _stat_of(int(number))
        # One that has ended keeps its number until its parent asks for it, which some never do.
        return now[_STATE] in ("Z", "X") or int(now[_START]) != int(start)
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return None


def _stat_of(number: int) -> list[str]:
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except PermissionError:
        raise psutil.AccessDenied(number) from None
    except OSError:
        raise psutil.NoSuchProcess(number) from None
    # A name may hold parentheses of its own.
    return text.rpartition(")")[2].split()


def _machine() -> str:
    """Return a hash of the machine, and of the container, which numbers its processes itself."""
    parts = [os.uname().nodename]
    with contextlib.suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text(encoding="utf-8").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _start_of_machine() -> str:
    """Return what is another one each time that the machine starts."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return "?"


@contextmanager
def alone_in(folder: Path, at_most: float | None = None) -> Iterator[None]:
    """Let one process at a time into the block for ``folder``, where the system can see to it.

    Args:
        folder: what only one is to work in.
        at_most: seconds to wait for another, which may have been stopped in the block; without it there is no end.

    Raises:
        BlockingIOError: another is in the block for longer.
    """
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
        if descriptor is not None:
            _lock(descriptor, at_most)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, at_most: float | None) -> None:
    if at_most is None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + at_most
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            # Not every file system knows locks.
            return
