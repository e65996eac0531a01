"""The outputs that a ``dvc.lock`` records, against those of a run."""

from collections.abc import Mapping

from spacewarps.tracking.lock_file import read_lock


def read_outputs(lock: str) -> dict[str, str]:
    """Return the hash of each output by its path; nothing where ``lock`` is no ``dvc.lock``."""
    try:
        return read_lock(lock).outputs
    except ValueError:
        return {}


def differing_outputs(lock: str, outputs: Mapping[str, str]) -> list[str]:
    """Return which of ``outputs`` have another hash in ``lock``, or none."""
    found = read_outputs(lock)
    return [path for path, digest in outputs.items() if found.get(path) != digest]
