"""Where to look at runs: for ``make ui``, which needs the address of the store, and for the last word of a run."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.tracking import MlflowClient

from spacewarps.errors import SpaceWarpsError
from spacewarps.resources import check_port_is_free
from spacewarps.tracking.database import check_database
from spacewarps.tracking.experiment import find_experiment
from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.root import project_root
from spacewarps.tracking.store import URI_VARIABLE, Store, find_store
from spacewarps.tracking.views import results_page

_USUAL_PORT = "5000"


def address() -> str:
    """Return the address of the store, as ``mlflow ui`` takes it.

    Raises:
        TrackingError: the store is a server, which has pages of its own, or it cannot be used.
    """
    store = find_store(project_root())
    if store.answers_by_http:
        raise TrackingError(f"the runs are on a server; open {_page(store)} in a browser")
    check_database(store)
    return store.uri


def check_port(port: str) -> None:
    """Check that pages can be served on ``port`` of this machine.

    Raises:
        SpaceWarpsError: it is no port, or somebody else's.
    """
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise TrackingError(f"PORT={port:.20} is no number from 1 to 65535")
    check_port_is_free(int(port), "ui")


def where_to_look(root: Path) -> str:
    """Return in words how to see the runs of the project in ``root``."""
    try:
        store = find_store(root)
    except TrackingError as error:
        return str(error)
    if store.answers_by_http:
        return _page(store)
    named = os.environ.get(URI_VARIABLE, "").strip()
    if (root / "Makefile").exists():
        how = f"`make ui`, with {URI_VARIABLE} as it is now," if named else "`make ui`"
        return f"{how} opens MLflow on this project's runs"
    uri = f'"${URI_VARIABLE}"' if named else "sqlite:///mlflow.db"
    return f"`mlflow ui --backend-store-uri {uri}` serves {_page(store)}"


def _page(store: Store, port: str = _USUAL_PORT) -> str:
    """Return the page of the project's runs, or the first one of a server that does not say which that is."""
    server = _without_user(store.uri) if store.answers_by_http else f"http://127.0.0.1:{port}"
    experiment = None
    # To ask a database that is not there would make one, and one on a server may let wait.
    if store.answers_by_http or (store.is_local and (store.database is None or store.database.exists())):
        # Each kind of store fails with errors of its own, and what is asked for is only the way to it.
        with suppress(Exception), _impatient():
            check_database(store)
            experiment = find_experiment(MlflowClient(store.uri))
    return results_page(server, experiment) if experiment else server


@contextmanager
def _impatient() -> Iterator[None]:
    """Wait for a server no longer than one would who only asks where it is."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    os.environ[name] = "2"
    try:
        yield
    finally:
        os.environ[name] = before


def _without_user(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


if __name__ == "__main__":
    try:
        check_port(sys.argv[1])
        print(address())
        print(f"MLflow will be at {_page(find_store(project_root()), sys.argv[1])}", file=sys.stderr)
    except SpaceWarpsError as error:
        sys.exit(f"make ui: {error}")
