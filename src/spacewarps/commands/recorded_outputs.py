"""The outputs that a ``dvc.lock`` records, against those of a run."""

from collections.abc import Mapping

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
