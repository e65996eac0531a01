"""Prints the address of the store that the stages write to, for ``make ui``."""

import sys

from spacewarps.tracking.database import check_database
from spacewarps.tracking.failures import TrackingError, without_password
from spacewarps.tracking.store import find_store, project_root


def address() -> str:
    """Return the address of the store, as ``mlflow ui`` takes it.

    Raises:
        TrackingError: the store is a server, which has pages of its own, or it cannot be used.
    """
    store = find_store(project_root())
    if store.answers_by_http:
        raise TrackingError(f"the runs are on a server; open {without_password(store.uri)} in a browser")
    check_database(store)
    return store.uri


if __name__ == "__main__":
    try:
        print(address())
    except TrackingError as error:
        sys.exit(f"make ui: {error}")
