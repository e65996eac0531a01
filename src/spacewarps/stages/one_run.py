"""One run of the pipeline at a time in a folder: two would overwrite each other's params and outputs."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from spacewarps.errors import SpaceWarpsError
from spacewarps.processes import has_ended, name_of
from spacewarps.tracking.runner import runner_of_the_pipeline

# In the folder itself, also in one of DVC's temporary copies: these are there to be worked in side by side.
_FILE = Path(".spacewarps") / "run"


@contextmanager
def one_run_at_a_time() -> Iterator[None]:
    """Note that this process's run of the pipeline works in this folder: until DVC ends, or this stage by itself.

    Where the note cannot be written or locked, nobody is kept out.

    Raises:
        SpaceWarpsError: another run works here.
    """
    runner = runner_of_the_pipeline()
    with contextlib.suppress(OSError, psutil.Error), _opened() as file:
        other, _, folder = file.read().partition("\n")
        # A folder that is copied while a run works in it brings the note along.
        is_here = folder == str(Path.cwd())
        if is_here and other != name_of(runner) and has_ended(other) is False:
            number = int(other.split(" ")[2])
            minutes = max(0.0, time.time() - psutil.Process(number).create_time()) / 60
            raise SpaceWarpsError(
                f"another run of the pipeline works in this folder (process {number}, for {minutes:.0f} min); wait for "
                "it, or use `dvc exp run --temp` or `--queue`, which work in folders of their own"
            )
        file.seek(0)
        file.truncate()
        file.write(f"{name_of(runner)}\n{Path.cwd()}")
    try:
        yield
    finally:
        if runner.pid == os.getpid():
            with contextlib.suppress(OSError), _opened() as file:
                file.truncate()


@contextmanager
def _opened() -> Iterator[TextIO]:
    """Open the note for one process at a time."""
    _FILE.parent.mkdir(exist_ok=True)
    descriptor = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="surrogateescape") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
