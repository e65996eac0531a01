"""Processes that make up a server: started away from the terminal, and ended in order."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from spacewarps.processes import has_ended, name_of

# A database writes everything down before it ends, which takes its time on a busy disk.
_SECONDS = 60.0


class Part:
    """A process, and all that it starts.

    Args:
        name: what it is called where it fails.
        command: what runs.
        log: the file that takes what it says.
        environment: what it finds in its environment; that of this process without it.
        stop: the signal that ends it.
        user: the user that it runs as, if not this one.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        stop: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> None:
        self.name, self.log, self._stop = name, log, stop
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=environment,
                # Ctrl-C reaches the whole terminal, but the parts end one after the other.
                start_new_session=True,
                **as_user(user),
            )
        #: What tells it from any other process, also when this one is gone.
        self.process_name = name_of(psutil.Process(self._process.pid))

    def has_ended(self) -> bool:
        """Say whether it runs no more."""
        return self._process.poll() is not None

    def why(self) -> str:
        """Return the last thing that it said."""
        return last_line(self.log.read_text(encoding="utf-8", errors="replace"))

    def stop(self) -> None:
        """End it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS)
            # What is left of it has its session.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def end_what_was_left(names: list[str]) -> None:
    """End the parts of a server that was killed itself, by their names; those of other machines are left alone."""
    # The last to start uses the others.
    for name in reversed(names):
        if has_ended(name) is not False:
            continue
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            process = psutil.Process(int(name.split(" ")[2]))
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(_SECONDS)
            os.killpg(process.pid, signal.SIGKILL)


def as_user(name: str | None) -> dict[str, Any]:
    """Return what lets :mod:`subprocess` run a program as a user; nothing for this one."""
    return {} if name is None else {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def last_line(text: str) -> str:
    """Return the last line of what a program said."""
    return (["nothing was said", *filter(None, map(str.strip, text.splitlines()))])[-1]
