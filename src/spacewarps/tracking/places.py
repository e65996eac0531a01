"""Where the runs of a project keep their files, once its folder was moved or copied.

MLflow writes whole paths into its database. In another folder it would go on to write where the project was, which
may be where the original still is, and would look there for what earlier runs have stored.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ARTIFACTS = "/mlartifacts"
_OF_EXPERIMENTS = (("experiments", "artifact_location"),)
_OF_WHAT_IS_STORED = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def follow_the_project(database: Path, artifacts: str, *, wait: float) -> None:
    """Let an SQLite database that moves with its project name places beside it, and none where it was before.

    What earlier runs have stored is looked for beside it too, unless only the database was copied.

    Args:
        database: its file.
        artifacts: the address of the folder beside it that experiments keep their artifacts in.
        wait: how many seconds at most for another process that writes.

    Raises:
        sqlite3.Error: it cannot be read or written.
    """
    with closing(sqlite3.connect(database, timeout=wait, isolation_level=None)) as connection:
        if not _former(connection, artifacts):
            return
        connection.execute("BEGIN IMMEDIATE")
        for former in _former(connection, artifacts):
            came_along = _path(artifacts).is_dir() or not _path(former).is_dir()
            old, new = former.removesuffix(_ARTIFACTS), artifacts.removesuffix(_ARTIFACTS)
            for table, column in (*_OF_EXPERIMENTS, *(_OF_WHAT_IS_STORED if came_along else ())):
                # MLflow's own first experiment has a path, and no address.
                for before, now in ((old, new), (str(_path(old)), str(_path(new)))):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (now, len(before) + 1, len(before) + 1, f"{before}/"),
                    )
        connection.execute("COMMIT")


def _former(connection: sqlite3.Connection, artifacts: str) -> list[str]:
    """Return where experiments of the project keep their artifacts, if it is not in ``artifacts``."""
    found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    places = [str(place) for (place,) in found]
    return [
        place for place in places if place.startswith("file:") and place.endswith(_ARTIFACTS) and place != artifacts
    ]


def _path(address: str) -> Path:
    return Path(unquote(urlsplit(address).path))
