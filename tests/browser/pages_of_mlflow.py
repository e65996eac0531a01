"""``make ui`` on a port of its own."""

import contextlib
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.pipeline.project import Project
from tiny_project import processes_of_session

_SECONDS = 600
# One process serves, and none waits for jobs that nobody gives it.
_SMALL = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True)
class Pages:
    """MLflow's pages of a project.

    Attributes:
        address: of the server.
        named: the page that ``make ui`` names.
    """

    address: str
    named: str


@contextlib.contextmanager
def make_ui(project: Project, log: Path) -> Iterator[Pages]:
    """Serve the pages of a project as ``make ui`` does, with what the environment holds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            project.make_command("ui", f"PORT={port}"),
            cwd=project.folder,
            env=project.environment | _SMALL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _SECONDS
        while not _answers(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        named = re.search(r"MLflow will be at (\S+)", log.read_text())
        assert named, log.read_text()
        yield Pages(address, named[1])
    finally:
        for left in processes_of_session(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
