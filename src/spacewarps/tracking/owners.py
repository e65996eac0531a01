"""Which process a run belongs to, so that no run of one that was killed stays RUNNING."""

import contextlib
import hashlib
import os
from pathlib import Path

import psutil

from spacewarps.progress import say
from spacewarps.tracking.tracker import OWNER_TAG, Tracker

# The time at which a process started is told to a hundredth of a second, by a clock that may be set.
_SECONDS = 5.0


def this_process() -> str:
    """Return what tells this process from any other: its machine, since when that runs, its number and its start."""
    process = psutil.Process()
    return f"{_machine()} {_start_of_machine()} {process.pid} {process.create_time():.2f}"


def has_ended(owner: str) -> bool:
    """Say whether the process that called itself ``owner`` has ended; of another machine's, nobody here can tell."""
    try:
        machine, start_of_machine, number, start = owner.split(" ")
        if machine != _machine():
            return False
        if start_of_machine != _start_of_machine():
            return True
        return abs(psutil.Process(int(number)).create_time() - float(start)) > _SECONDS
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def end_abandoned_runs(tracker: Tracker) -> None:
    """End as KILLED what is RUNNING in the experiment but belongs to a process that has ended."""
    found = tracker.attempt(
        lambda: tracker.client.search_runs([tracker.experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
    )
    abandoned = [run.info.run_id for run in found or () if has_ended(run.data.tags.get(OWNER_TAG, ""))]
    for run_id in abandoned:
        tracker.end_run(run_id, "KILLED")
    if abandoned:
        count = len(abandoned)
        runs = f"{count} runs are" if count > 1 else "1 run is"
        say(f"MLflow: {runs} KILLED now, as the process that wrote there has ended")


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
