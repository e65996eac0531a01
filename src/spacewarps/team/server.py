"""MLflow as a team would run it: on PostgreSQL, with artifacts in a bucket, and for those who have a password."""

import fcntl
import json
import os
import shlex
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.progress import say
from spacewarps.resources import check_port_is_free
from spacewarps.team.bucket import BUCKET, S3Server
from spacewarps.team.credentials import Credentials, as_shell, write_secret
from spacewarps.team.parts import Part, end_what_was_left
from spacewarps.team.postgres import Cluster

_START_SECONDS = 300.0
_PAUSE_SECONDS = 0.2
# To check a password takes a good part of a second by design, and a pipeline asks hundreds of times.
_SETTINGS = """\
[mlflow]
default_permission = EDIT
database_uri = {accounts}
admin_username = {user}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def serve(folder: Path, port: int, told_to_end: threading.Event) -> None:
    """Serve on ``port`` of the loopback interface until told to end, and again over what ``folder`` holds.

    Raises:
        SpaceWarpsError: a part is missing, fails, or ends by itself; the port is taken; another serves this folder.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running, _only_one_of(folder), suppress(_ToldToEndError):
        # What a killed server has left may hold the port.
        parts = _Parts(folder, running, told_to_end)
        check_port_is_free(port, "team-server")
        credentials = Credentials.in_folder(folder / "secrets")
        cluster = Cluster(folder / "postgres", folder / "secrets", credentials.database_password, _free_port())
        parts.start(cluster.start, until=cluster.answers)
        bucket = running.enter_context(S3Server(folder / "bucket", credentials.s3_key))
        environment = _environment(folder / "secrets", cluster, bucket, credentials)
        address = f"http://127.0.0.1:{port}"
        parts.start(lambda: _mlflow(folder, port, environment), until=lambda: _answers(address))
        client = folder / "secrets" / "environment"
        named = {"URI": address, "USERNAME": credentials.user, "PASSWORD": credentials.password}
        write_secret(client, as_shell({f"MLFLOW_TRACKING_{name}": value for name, value in named.items()}))
        say(f"MLflow on PostgreSQL and S3, with a password: {address} (Ctrl-C ends it; its data stays in {folder})")
        say(f"to point a project at it, in the project's shell: . {shlex.quote(str(client))}")
        say("that file, which only you can read, has the user and the password; a browser asks for them, too")
        parts.watch()


class _ToldToEndError(Exception):
    """Told to end before everything had started."""


class _Parts:
    """The processes of a server, which end in the reverse order of their start."""

    def __init__(self, folder: Path, running: ExitStack, told_to_end: threading.Event) -> None:
        self._note = folder / "processes.json"
        self._running, self._told_to_end = running, told_to_end
        self._parts: list[Part] = []
        with suppress(OSError, ValueError):
            end_what_was_left(json.loads(self._note.read_text(encoding="utf-8")))

    def start(self, start: Callable[[], Part], *, until: Callable[[], bool]) -> None:
        part = start()
        self._running.callback(part.stop)
        self._parts.append(part)
        self._note.write_text(json.dumps([part.process_name for part in self._parts]), encoding="utf-8")
        deadline = time.monotonic() + _START_SECONDS
        while not until():
            if self._told_to_end.wait(_PAUSE_SECONDS):
                raise _ToldToEndError
            self._check_that_all_run()
            if time.monotonic() > deadline:
                raise SpaceWarpsError(f"{part.name} does not answer after {_START_SECONDS:.0f} s; see {part.log}")

    def watch(self) -> None:
        while not self._told_to_end.wait(_PAUSE_SECONDS):
            self._check_that_all_run()

    def _check_that_all_run(self) -> None:
        for part in self._parts:
            if part.has_ended():
                raise SpaceWarpsError(f"{part.name} has ended: {part.why()}; see {part.log}")


@contextmanager
def _only_one_of(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpaceWarpsError(f"{folder}: another server works over this folder; name another folder") from None
        yield


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _environment(secrets: Path, cluster: Cluster, bucket: S3Server, credentials: Credentials) -> dict[str, str]:
    """Return the environment of MLflow's server: passwords stand here and in files, and on no command line."""
    accounts = secrets / "accounts.ini"
    # A percent sign would begin a reference there, and a password has none.
    write_secret(
        accounts,
        _SETTINGS.format(accounts=cluster.address("accounts"), user=credentials.user, password=credentials.password),
    )
    # Nothing of what this user has set for MLflow and S3 elsewhere.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_", "AWS_"))}
    return {
        **clean,
        "PGPASSFILE": str(cluster.password_file),
        "MLFLOW_BACKEND_STORE_URI": cluster.address("mlflow"),
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": credentials.cookies,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_S3_ENDPOINT_URL": bucket.address,
        "AWS_ACCESS_KEY_ID": credentials.s3_key,
        "AWS_SECRET_ACCESS_KEY": credentials.s3_secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _mlflow(folder: Path, port: int, environment: dict[str, str]) -> Part:
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--app-name", "basic-auth"]
    artifacts = ["--serve-artifacts", "--artifacts-destination", f"s3://{BUCKET}"]
    command = [sys.executable, "-m", "mlflow", "server", *options, *artifacts]
    return Part("MLflow", command, folder / "mlflow.log", environment=environment)


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
        return bool(answer.status == 200)
    return False
