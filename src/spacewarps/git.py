"""Asking git, whose refusals are told in one line."""

import os
import subprocess
from pathlib import Path

from spacewarps.errors import SpaceWarpsError


def run_git(folder: Path, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    """Run git in ``folder``, in its own English.

    Args:
        folder: where.
        arguments: the command.
        may_fail: return what git said when it refuses, too.

    Raises:
        SpaceWarpsError: git is not installed, or it refuses.
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
    if done.returncode and not may_fail:
        raise SpaceWarpsError(f"git {arguments[0]} failed in {folder}: {last_line(done.stderr)}")
    return done


def last_line(text: str) -> str:
    """Return the last line of what git said."""
    return (text.strip().splitlines() or ["git gave no message"])[-1]
