"""Asking git, whose refusals are told in one line."""

import os
import subprocess
from pathlib import Path

from spacewarps.errors import SpaceWarpsError

# In what git says of a folder that another user owns.
_TRUST = "git config --global --add safe.directory"


def run_git(folder: Path, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    """Run git in ``folder``, in its own English.

    Args:
        folder: where.
        arguments: the command.
        may_fail: return what git said when it refuses, too.

    Raises:
        SpaceWarpsError: git is not installed, or it refuses; in any case if the folder is another user's.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise SpaceWarpsError("git is not installed; DVC needs it, so install it first") from None
    if done.returncode and (way_out := next((line for line in done.stderr.splitlines() if _TRUST in line), None)):
        raise SpaceWarpsError(f"{folder} is in another user's repository, so git refuses it; `{way_out.strip()}` helps")
    if done.returncode and not may_fail:
        raise SpaceWarpsError(f"git {arguments[0]} failed in {folder}: {fault(done.stderr)}")
    return done


def fault(text: str) -> str:
    """Return the line of what git said that tells what is wrong; hints may follow it."""
    lines = text.strip().splitlines() or ["git gave no message"]
    return next((line for line in lines if line.startswith("fatal: ")), lines[-1])
