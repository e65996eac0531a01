"""Which code runs: a project that holds the code runs its own, whatever package the command belongs to."""

import os
import sys
from pathlib import Path

from spacewarps.errors import SpaceWarpsError

_STARTED_FOR = "SPACEWARPS_SOURCES"


def run_own_code() -> None:
    """Start this process anew with the code in ``src`` of this folder, if it holds any and other code is running.

    DVC hashes that ``src`` and takes a result for its work. In DVC's queue, in its temporary copies and in git's
    worktrees it is not what the environment has installed.

    Raises:
        SpaceWarpsError: even so, other code is running.
    """
    own, running = Path("src/spacewarps").resolve(), Path(__file__).resolve().parent
    if not (own / "__init__.py").is_file() or own.samefile(running):
        return
    sources = str(own.parent)
    if os.environ.get(_STARTED_FOR) == sources:
        raise SpaceWarpsError(
            f"{own} is the code of this folder, but {running} comes before it even with PYTHONPATH={sources}; "
            "install this folder's with `pip install --editable .`"
        )
    # The environment reaches the workers of every executor; a change of sys.path would not.
    path = os.pathsep.join(filter(None, [sources, os.environ.get("PYTHONPATH")]))
    os.execve(sys.executable, sys.orig_argv, {**os.environ, _STARTED_FOR: sources, "PYTHONPATH": path})
