"""Where runs are kept: the store that ``MLFLOW_TRACKING_URI`` names, or else the database at the project's root."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, unquote, urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from spacewarps.tracking.failures import SECRET_OPTION, USER, TrackingError, without_password

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_DATABASE_SERVERS = frozenset({"postgresql", "mysql", "mssql"})
# Words that MLflow takes for a server; any other word without a scheme is a folder.
_DATABRICKS = frozenset({"databricks", "databricks-uc", "uc"})
_MARK_DIGITS = 6
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")


@dataclass(frozen=True)
class Store:
    """Where runs are kept.

    Attributes:
        uri: the address that MLflow is given, with all local paths absolute.
        artifacts: where a new experiment keeps its artifacts; None where the store knows a place of its own.
        database: the file of an SQLite database.
        answers_by_http: a server, which has pages to look at.
        moves_along: whether the database lies in the project's folder, and goes where that goes.
    """

    uri: str
    artifacts: str | None = None
    database: Path | None = None
    answers_by_http: bool = False
    moves_along: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is a file or a folder, and no server that may be away."""
        return self.uri.startswith(("sqlite", "file:"))

    def public_name(self, root: Path) -> str:
        """Return a name that tells it from other stores: without user and password, and the same if ``root`` moves.

        Options may tell two stores of one server apart, as a socket or a schema does. Any of them may hold a secret as
        well, so the name has so few digits of their hash that none can be found by trying.
        """
        address, _, options = USER.sub("", self.uri).partition("?")
        if self.is_local:
            # Its options say how a file is opened, not which.
            return address.replace(f"{root}/", "")
        # That a password has changed makes no other store.
        which = sorted(
            option for option in options.split("&") if option and not SECRET_OPTION.fullmatch(option.partition("=")[0])
        )
        mark = f"?{hashlib.sha256('&'.join(which).encode()).hexdigest()[:_MARK_DIGITS]}" if which else ""
        return f"{address.rstrip('/')}{mark}"


def find_store(root: Path) -> Store:
    """Return the store that ``MLFLOW_TRACKING_URI`` names, or else the database in ``root``.

    A path that is not absolute counts from ``root``, never from the folder that a stage runs in: that may be a copy
    that DVC deletes afterwards.

    Raises:
        TrackingError: the address names no store, or a path cannot stand in an address.
    """
    uri = os.environ.get(URI_VARIABLE, "").strip()
    if not uri:
        return _sqlite_store(root / "mlflow.db", root)
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        _refuse(uri, f"is no address ({error})")
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite":
        return _named_sqlite_store(uri, root)
    if kind in _DATABASE_SERVERS:
        return Store(uri, _file_uri(root / "mlartifacts"))
    if kind == "file":
        if parts.netloc not in {"", "localhost"}:
            _refuse(uri, f"names a machine called {parts.netloc}; write file:FOLDER, or file:///FOLDER")
        return Store(_file_uri(root / unquote(parts.path)))
    if _HOST_AND_PORT.fullmatch(uri):
        _refuse(uri, f"names no scheme; write http://{uri}")
    if not kind and uri not in _DATABRICKS:
        if (root / uri).is_file():
            _refuse(uri, f"names a file; write sqlite:///{uri} if it is a database")
        return Store(_file_uri(root / uri))
    answers_by_http = kind in {"http", "https"}
    if answers_by_http and "#" in uri:
        _refuse(uri, f"is a page of the browser; write {uri.partition('#')[0].rstrip('/')}")
    if answers_by_http and not parts.hostname:
        _refuse(uri, f"names no server; write {kind}://HOST:PORT")
    return Store(uri, answers_by_http=answers_by_http)


def _named_sqlite_store(uri: str, root: Path) -> Store:
    try:
        named = make_url(uri).database
    except ArgumentError:
        named = None
    if not named or named == ":memory:" or "mode=memory" in uri:
        _refuse(uri, "names no file; write sqlite:///mlflow.db, or sqlite:////FOLDER/mlflow.db")
    if named.startswith("file:"):
        # SQLite's own kind of address, which has an encoding of its own.
        if not named.startswith("file:/"):
            _refuse(uri, "depends on the folder that a stage runs in; write sqlite:///file:/FOLDER/mlflow.db?uri=true")
        return Store(uri, _file_uri(root / "mlartifacts"))
    return _sqlite_store(root / named, root, options=uri.partition("?")[2])


def _sqlite_store(database: Path, root: Path, options: str = "") -> Store:
    """Return the store of an SQLite database, its artifacts beside it."""
    artifacts, uri = _file_uri(database.parent / "mlartifacts"), sqlite_uri(database)
    moves_along = database.resolve().is_relative_to(root.resolve())
    return Store(f"{uri}?{options}" if options else uri, artifacts, database, moves_along=moves_along)


def sqlite_uri(database: Path) -> str:
    """Return the address of an SQLite database.

    Raises:
        TrackingError: its path cannot stand in an address.
    """
    # Releases of SQLAlchemy differ in what they decode. Of an address that starts with sqlite:///, MLflow decodes
    # nothing and makes the folder that it reads there; of the longer scheme it makes none.
    for uri in (f"sqlite:///{database}", f"sqlite+pysqlite:///{quote(str(database))}"):
        if make_url(uri).database == str(database):
            return uri
    raise TrackingError(_unusable(database))


def _file_uri(path: Path) -> str:
    uri = path.as_uri()
    if unquote(urlsplit(uri).path) != str(path):
        raise TrackingError(_unusable(path))
    return uri


def _unusable(path: Path) -> str:
    return f"{path}: MLflow cannot open a path of these characters; rename the folder, or set {URI_VARIABLE}"


def _refuse(uri: str, what: str) -> NoReturn:
    raise TrackingError(without_password(f"{URI_VARIABLE}={uri} {what}"))
