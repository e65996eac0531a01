"""Where the runs of a project keep their files, once its folder was moved or copied.

MLflow writes whole paths into its database. In another folder it would go on to write where the project was, which
may be where the original still is, and would look there for what earlier runs have stored.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: On an experiment whose artifacts lie beside the project's database: their place. Others a user has chosen.
PLACE_TAG = "spacewarps.artifacts"

_ARTIFACTS = "/mlartifacts"
# Of MLflow's own first experiment, which has the number 0.
_OF_FIRST = "/mlruns/0"
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
            connection.execute(
                "UPDATE experiment_tags SET value = ? WHERE key = ? AND value = ?", (artifacts, PLACE_TAG, former)
            )
        connection.execute("COMMIT")


def _former(connection: sqlite3.Connection, artifacts: str) -> list[str]:
    """Return where experiments of the project keep their artifacts, if it is not in ``artifacts``.

    Of an experiment without a tag that tells, as earlier versions made them, MLflow's own first experiment tells the
    folder that the project was in: there the place is the project's if it lay as ``artifacts`` does now.
    """
    found: list[tuple[str, str | None]] = connection.execute(
        "SELECT DISTINCT e.artifact_location, t.value FROM experiments e "
        "LEFT JOIN experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ?",
        (PLACE_TAG,),
    ).fetchall()
    first = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
    folder = _path(str(first[0]).removesuffix(_OF_FIRST)) if first else None
    return [
        place
        for place, told in found
        if place.startswith("file:") and place.endswith(_ARTIFACTS) and place != artifacts
        if told == place or (folder is not None and _lay_alike(_path(place), folder, _path(artifacts)))
    ]


def _lay_alike(place: Path, folder: Path, now: Path) -> bool:
    """Say whether ``place`` is in ``folder``, and there where ``now`` is in some folder."""
    return place.is_relative_to(folder) and now.parts[-len(place.relative_to(folder).parts) :] == (
        place.relative_to(folder).parts
    )


def _path(place: str) -> Path:
    """Return the path of a place, which may be an address."""
    return Path(unquote(urlsplit(place).path) if place.startswith("file:") else place)
