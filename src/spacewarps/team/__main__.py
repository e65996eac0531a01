"""The command behind ``make team-server``."""

import argparse
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from spacewarps.errors import SpaceWarpsError, extra_missing

_NEEDED = ("flask_wtf", "moto.server", "psycopg", "boto3")


def main() -> int:
    """Serve until a signal comes, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m spacewarps.team", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="of 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(".spacewarps/team"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    told_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: told_to_end.set())
    try:
        _check_that_all_is_installed()
        from spacewarps.team.server import serve

        serve(arguments.folder.absolute(), arguments.port, told_to_end)
    except (SpaceWarpsError, OSError) as error:
        print(f"team-server: {error}", file=sys.stderr)
        return 2
    return 0


def _check_that_all_is_installed() -> None:
    try:
        missing = [name for name in _NEEDED if find_spec(name) is None]
    except ModuleNotFoundError as error:
        missing = [str(error.name)]
    if missing:
        raise SpaceWarpsError(extra_missing("team", *missing))


if __name__ == "__main__":
    sys.exit(main())
