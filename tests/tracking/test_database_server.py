"""A database server without an MLflow server before it: each stage opens it itself."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

from spacewarps.errors import SpaceWarpsError
from spacewarps.team.postgres import Cluster
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import all_runs

pytestmark = pytest.mark.long

TOGETHER = 4


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """PostgreSQL, whose password is in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="server") as place:
        # Started by root, PostgreSQL runs as another user, who has to get there.
        Path(place).chmod(0o711)
        try:
            cluster = Cluster(Path(place) / "postgres", Path(place), "geheim", port)
        except SpaceWarpsError as error:
            pytest.skip(str(error))
        monkeypatch.setenv("PGPASSFILE", str(cluster.password_file))
        part = cluster.start()
        try:
            deadline = time.monotonic() + 60
            while not cluster.answers():
                assert time.monotonic() < deadline, part.why()
                time.sleep(0.1)
            yield cluster
        finally:
            part.stop()


def test_processes_that_start_together_make_the_tables_once(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address("mlflow"))
    code = """
import sys, time
from pathlib import Path
from spacewarps.tracking.tracker import Tracker
print("ready", flush=True)
sys.stdin.readline()
tracker = Tracker(Path.cwd())
tracker.start_run(sys.argv[1], None, {})
deadline = time.monotonic() + 100
while tracker.spool.undelivered and time.monotonic() < deadline:
    time.sleep(0.1)
tracker.close("FINISHED")
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(TOGETHER)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in started] == [""] * TOGETHER
    tracker = Tracker(tmp_path)
    try:
        assert sorted(str(run.info.run_name) for run in all_runs(tracker)) == ["0", "1", "2", "3"]
    finally:
        tracker.close("FINISHED")
