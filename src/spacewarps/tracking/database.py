"""Whether a database can be used: asked before MLflow, which tries for minutes, and migrates without asking.

What it names places by is brought up to date first, where the project has moved.
"""

import logging
import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import mlflow
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.store.db.base_sql_model import Base
from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

from spacewarps.files import outputs
from spacewarps.tracking.failures import TrackingError, UnansweredError
from spacewarps.tracking.places import follow_the_project
from spacewarps.tracking.store import URI_VARIABLE, Store, sqlite_uri

_SQLITE_HEADER = b"SQLite format 3\0"
# As long as MLflow itself waits for another process to write.
_LOCK_SECONDS = 20.0
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# MLflow shows a traceback of each failure of a database that it raises, too.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
_ELSEWHERE = f"or set {URI_VARIABLE} to another store"


def check_database(store: Store) -> None:
    """See to it that a database answers, and that the tables in an SQLite database are this MLflow's.

    One that lies in the project's folder names places beside it afterwards, where they were elsewhere.

    Raises:
        UnansweredError: another process has locked an SQLite database for long.
        TrackingError: the file of one cannot be used.
        Exception: whatever the driver of another database raises that does not answer.
    """
    if store.database is not None:
        _check_file(store.database)
        if store.database.exists() and store.database.stat().st_size:
            _check_tables(store, store.database)
            if store.moves_along and store.artifacts is not None:
                _follow(store.database, store.artifacts)
    elif store.artifacts is not None:
        engine = create_sqlalchemy_engine(store.uri)  # type: ignore[no-untyped-call]
        with closing(engine.connect()):
            pass
        engine.dispose()


def make_database(path: Path) -> None:
    """Make an SQLite database with this MLflow's tables, if none is there: all of it appears at once.

    One whose maker is killed half-way looks as if an older MLflow had written it, and nothing can be done with it.
    """
    if path.exists() and path.stat().st_size:
        return
    with outputs() as new:
        engine = create_sqlalchemy_engine(sqlite_uri(new.file(path.resolve())))  # type: ignore[no-untyped-call]
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
        engine.dispose()


def _check_file(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        _refuse(path, "its folder is not there", f"make it, {_ELSEWHERE}")
    if path.is_symlink() and not path.exists():
        what = f"it is a link to {path.readlink()}, which is not there"
        _refuse(path, what, f"bring that back, or delete the link, {_ELSEWHERE}")
    if path.exists():
        if not path.is_file():
            what = "a folder" if path.is_dir() else "a pipe or a device"
            _refuse(path, f"{what} stands where the file should be", f"rename it, {_ELSEWHERE}")
        if not os.access(path, os.R_OK | os.W_OK):
            _refuse(path, "no permission to read and write it", f"change its permissions, {_ELSEWHERE}")
    # SQLite writes a journal beside the database.
    if not os.access(folder, os.W_OK | os.X_OK):
        _refuse(path, "no permission to write in its folder", f"change the folder's permissions, {_ELSEWHERE}")


def _check_tables(store: Store, path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_SQLITE_HEADER)) != _SQLITE_HEADER:
            _refuse(path, "it is no SQLite database", f"if it was one, restore it from a copy, {_ELSEWHERE}")
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            known = "alembic_version" in tables
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall() if known else []
    except sqlite3.Error as error:
        _check_that_it_is_free(error)
        _refuse_for(path, error, "end what else uses it or restore it from a copy")
    if not tables - {"alembic_version"}:
        return
    if not {"experiments", "runs"} <= tables:
        _refuse(path, "it holds the tables of another program", _ELSEWHERE.removeprefix("or "))
    migrations = ScriptDirectory(str(Path(mlflow.__file__).with_name("store") / "db_migrations"))
    versions = {version for (version,) in found}
    if versions == set(migrations.get_heads()) and set(Base.metadata.tables) <= tables:
        return
    try:
        migrations.get_revisions(tuple(versions))
    except CommandError:
        _refuse(path, f"a newer MLflow than {mlflow.__version__} wrote it", f"update MLflow, {_ELSEWHERE}")
    command = f"mlflow db upgrade {shlex.quote(store.uri)}"
    _refuse(path, "an older MLflow wrote it", f"make a copy of it, then bring it up to date with `{command}`")


def _follow(path: Path, artifacts: str) -> None:
    try:
        follow_the_project(path, artifacts, wait=_LOCK_SECONDS)
    except sqlite3.Error as error:
        _check_that_it_is_free(error)
        _refuse_for(path, error, "end what else uses it")


def _check_that_it_is_free(error: sqlite3.Error) -> None:
    if is_locked(error):
        raise UnansweredError(str(error)) from None


def is_locked(error: BaseException | None) -> bool:
    """Say whether an error comes of an SQLite database that another process has locked, as MLflow wraps it."""
    while error is not None:
        # Beside its kind, the code tells what has locked it.
        if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _refuse_for(path: Path, error: sqlite3.Error, advice: str) -> NoReturn:
    is_full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    _refuse(path, str(error), f"{'make room on its disk' if is_full else advice}, {_ELSEWHERE}")


def _refuse(path: Path, what: str, advice: str) -> NoReturn:
    raise TrackingError(f"{path}: MLflow's database cannot be used: {what}; {advice}")
