"""The outputs that a ``dvc.lock`` records, against those of a run; and the commits that have some."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from spacewarps.git import run_git
from spacewarps.tracking.lock_file import read_lock


def read_outputs(lock: str) -> dict[str, str]:
    """Return the hash of each output by its path; nothing where ``lock`` is no ``dvc.lock``."""
    try:
        return read_lock(lock).outputs
    except ValueError:
        return {}


def differing_outputs(outputs: Mapping[str, str], *locks: str) -> list[str]:
    """Return which of ``outputs`` have another hash in ``locks``, or none.

    A run of one pipeline may have run stages of another first.
    """
    found = {path: digest for lock in locks for path, digest in read_outputs(lock).items()}
    return [path for path, digest in outputs.items() if found.get(path) != digest]


def commits_with(digest: str, folder: Path, locks: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yield each commit, of whatever branch or experiment, that changed one of ``locks`` and has ``digest`` in one.

    The last comes first, each with what ``locks`` hold there: nothing where there is none.

    Args:
        digest: the hash of an output.
        folder: the project's, in git.
        locks: relative to it.
    """
    names = [str(lock) for lock in locks]
    # All that changed a lock, not only what brought the hash: a result may have some outputs of the one before.
    changed = run_git(folder, "log", "--all", "--format=%H", "--", *names).stdout.split()
    for commit in changed:
        held = locks_at(commit, folder, locks)
        if any(digest in lock for lock in held):
            yield commit, held


def locks_at(commit: str, folder: Path, locks: Sequence[Path]) -> list[str]:
    """Return what each of ``locks`` in the project's ``folder`` holds at ``commit``: nothing where there is none."""
    return [run_git(folder, "show", f"{commit}:./{lock}", may_fail=True).stdout for lock in locks]
