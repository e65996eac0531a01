"""A real tracking server over HTTP, and a line to it that can be cut, slow or dead."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """`mlflow server` on a port of its own, with its store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        places = ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        places += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options, *places],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
                start_new_session=True,
            )
        deadline = time.monotonic() + 600
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, number)


class Line:
    """Stands between the stages and a server.

    Attributes:
        allowed: how many more requests reach the server; the answer to the last is lost, and the line is dead then.
        seconds: how long each takes.
        heard: is called with the number of each request that reached the server.
        barred: the status of HTTP that who makes a run is answered instead; 401 is the answer to everything.
        broken: the ends of paths at which the server fails.
        late: how long after its time the first request that makes a run reaches the server, which hears all others.
    """

    def __init__(self, server: Server) -> None:
        self.allowed, self.seconds, self.late, self.count = sys.maxsize, 0.0, 0.0, 0
        self.barred: int | None = None
        self.broken: tuple[str, ...] = ()
        self.heard: Callable[[int], None] = lambda _count: None
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                time.sleep(line.seconds)
                if line.late and self.path.endswith("runs/create"):
                    late, line.late = line.late, 0.0
                    time.sleep(late)
                if line.allowed <= 0:
                    self.close_connection = True
                    return
                if line.barred == 401 or (line.barred and self.path.endswith("runs/create")):
                    self.send_error(line.barred)
                    return
                if line.broken and self.path.endswith(line.broken):
                    self.send_error(500)
                    return
                line.allowed -= 1
                line.count += 1
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                line.heard(line.count)
                if line.allowed <= 0:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take the line away."""
        self._http.shutdown()
        self._http.server_close()


def wait_for_senders() -> None:
    """Wait until the threads of stages that have ended in this process have ended, with their last requests."""
    for thread in threading.enumerate():
        if thread.name == "notes for MLflow":
            thread.join(60)
            assert not thread.is_alive()
