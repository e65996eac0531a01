"""Processes of this and other machines, told from each other for as long as anyone remembers them."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# The time at which a process started is told to a hundredth of a second, by a clock that may be set.
_SECONDS = 5.0


def name_of(process: psutil.Process) -> str:
    """Return what tells a process from any other: its machine, since when that runs, its number and its start."""
    return f"{_machine()} {_start_of_machine()} {process.pid} {process.create_time():.2f}"


def has_ended(name: str) -> bool | None:
    """Say whether the process of that name has ended; nothing where nobody here can tell, as on another machine."""
    try:
        machine, start_of_machine, number, start = name.split(" ")
        if machine != _machine():
            return None
        if start_of_machine != _start_of_machine():
            return True
        return abs(psutil.Process(int(number)).create_time() - float(start)) > _SECONDS
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return None


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
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block for ``folder``, where the system can see to it."""
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
