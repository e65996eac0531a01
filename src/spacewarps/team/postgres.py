"""A cluster of PostgreSQL of one's own, in a folder, on the loopback interface."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from spacewarps.errors import SpaceWarpsError
from spacewarps.team.credentials import write_secret
from spacewarps.team.parts import Part, as_user, last_line

ROLE = "spacewarps"
# PostgreSQL refuses to run as root. Debian's package makes this user.
_USER = "postgres"
# Where Debian keeps versions apart, and out of the way.
_DEBIAN = Path("/usr/lib/postgresql")
_MISSING = "PostgreSQL is not installed here; in Debian and Ubuntu: apt-get install postgresql"


class Cluster:
    """The cluster in a folder, which is made where there is none.

    Args:
        folder: holds the cluster, its log, and the file of passwords for its clients.
        secrets: the folder for that file.
        password: that of the role.
        port: where it listens.

    Attributes:
        password_file: what clients read the password from, so that it stands in no address and on no command line.

    Raises:
        SpaceWarpsError: PostgreSQL is not installed, or cannot work in this folder.
    """

    def __init__(self, folder: Path, secrets: Path, password: str, port: int) -> None:
        self.port = port
        self.password_file = secrets / "pgpass"
        self._folder, self._data, self._log = folder, folder / "data", folder / "log"
        self._programs = programs()
        self._user = _other_user()
        folder.mkdir(exist_ok=True)
        self._check_that_it_can_be_reached()
        write_secret(self.password_file, f"127.0.0.1:*:*:{ROLE}:{password}\n")
        if not (self._data / "PG_VERSION").exists():
            self._make(password)

    def start(self) -> Part:
        """Start it; it is ready when :meth:`answers` says so."""
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        # It ends at once then, and leaves nothing undone.
        return Part("PostgreSQL", command, self._log, stop=signal.SIGINT, user=self._user)

    def answers(self) -> bool:
        """Say whether it takes connections."""
        with contextlib.suppress(psycopg.OperationalError), self._connect("postgres"):
            return True
        return False

    def address(self, database: str) -> str:
        """Return the address of a database, which is made if it is not there.

        Raises:
            SpaceWarpsError: the cluster does not let this user in.
        """
        try:
            with self._connect("postgres") as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
                if found is None:
                    connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        except psycopg.Error as error:
            raise SpaceWarpsError(f"{self._folder}: PostgreSQL refuses: {' '.join(str(error).split())}") from None
        return f"postgresql+psycopg://{ROLE}@127.0.0.1:{self.port}/{database}"

    def _connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ROLE,
            dbname=database,
            passfile=str(self.password_file),
            connect_timeout=5,
            autocommit=True,
        )

    def _check_that_it_can_be_reached(self) -> None:
        if self._user is None:
            return
        shutil.chown(self._folder, self._user, self._user)
        found = subprocess.run(["test", "-w", str(self._folder)], **as_user(self._user), check=False)
        if found.returncode != 0:
            raise SpaceWarpsError(
                f"{self._folder}: PostgreSQL does not run as root, and the user {self._user} cannot get there; "
                "name a folder that everyone can reach, or start this as another user than root"
            )

    def _make(self, password: str) -> None:
        # What an attempt has left that was interrupted.
        shutil.rmtree(self._data, ignore_errors=True)
        words = self._folder / "password"
        try:
            write_secret(words, password)
            if self._user is not None:
                shutil.chown(words, self._user)
            options = [f"--username={ROLE}", f"--pwfile={words}", "--auth=scram-sha-256"]
            done = subprocess.run(
                [str(self._programs / "initdb"), f"--pgdata={self._data}", *options, "--encoding=UTF8", "--locale=C"],
                **as_user(self._user),
                cwd=self._folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                check=False,
            )
        finally:
            words.unlink(missing_ok=True)
        if done.returncode != 0:
            raise SpaceWarpsError(f"{self._data}: PostgreSQL makes no cluster: {last_line(done.stderr)}")


def programs() -> Path:
    """Return the folder that holds PostgreSQL's server.

    Raises:
        SpaceWarpsError: it is not installed.
    """
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).resolve().parent
    installed = [path.parent for path in _DEBIAN.glob("*/bin/initdb")]
    if not installed:
        raise SpaceWarpsError(_MISSING)
    return max(installed, key=lambda path: [int(number) for number in re.findall(r"\d+", path.parent.name)])


def _other_user() -> str | None:
    """Return the user that PostgreSQL has to run as, if not this one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_USER).pw_name
    except KeyError:
        raise SpaceWarpsError(
            f"PostgreSQL does not run as root, and there is no user {_USER}: adduser --system {_USER}, or start this "
            "as another user than root"
        ) from None
