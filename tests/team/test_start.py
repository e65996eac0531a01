"""What keeps a server from starting is said in one line."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

from spacewarps.errors import SpaceWarpsError
from spacewarps.team import postgres


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        yield int(there.getsockname()[1])


def team_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spacewarps.team", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_port_that_is_taken_is_refused_in_one_line(taken: int, tmp_path: Path) -> None:
    pytest.importorskip("moto.server")
    for port in (str(taken), "99999999", "0"):
        done = team_server("--folder", str(tmp_path / "team"), "--port", port)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"team-server: port {port} of 127.0.0.1 cannot be had (")
    # No passwords are made for a server that does not start.
    assert [path.name for path in tmp_path.rglob("*")] == ["team", "lock"]


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("moto.server")
    (tmp_path / "file").write_text("in the way")
    done = team_server("--folder", str(tmp_path / "file/team"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert str(tmp_path / "file/team") in done.stderr


def test_without_postgresql_it_says_how_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    with pytest.raises(SpaceWarpsError, match=r"^PostgreSQL is not installed here; .*: apt-get install postgresql$"):
        postgres.programs()


def test_of_several_versions_of_debian_the_newest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/initdb").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    assert postgres.programs() == tmp_path / "17/bin"


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as this user")
def test_a_folder_that_postgresqls_user_cannot_reach_is_refused_in_one_line(tmp_path: Path) -> None:
    try:
        postgres.programs()
    except SpaceWarpsError as error:
        pytest.skip(str(error))
    (tmp_path / "mine").mkdir(mode=0o700)
    with pytest.raises(
        SpaceWarpsError, match=r"mine/postgres: PostgreSQL does not run as root, and the user postgres "
    ):
        postgres.Cluster(tmp_path / "mine/postgres", tmp_path, "a word", 1)
