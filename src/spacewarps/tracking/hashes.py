"""The hashes by which DVC knows what a stage has written."""

import hashlib
import json
from pathlib import Path


def dvc_hash(path: Path) -> str:
    """Return the hash under which DVC keeps the file or folder ``path``, as ``dvc.lock`` shows it.

    It is the MD5 of the file; of a folder, that of a list of all files, each with its own MD5, as JSON.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir():
        return _md5(path)
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    entries = [{"md5": _md5(file), "relpath": name} for name, file in files]
    return f"{hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest()}.dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
