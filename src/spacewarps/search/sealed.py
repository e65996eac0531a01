"""The files of a cache, each sealed with a hash of its own: one that is torn or altered is known for it."""

import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path

_SECONDS_UNTIL_LEFT_OVER = 3600.0


def seal(content: bytes) -> bytes:
    """Return ``content`` behind its hash."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unseal(data: bytes) -> bytes:
    """Return what :func:`seal` was given.

    Raises:
        ValueError: ``data`` is torn or altered.
    """
    digest, _, content = data.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("torn or altered")
    return content


def write_sealed(path: Path, content: bytes) -> None:
    """Write ``content`` behind its hash, so that after a power loss it is there in full, or not at all.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    # For all whom the system's own settings let read: others may share the cache. Python's temporary files are private.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(seal(content))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_sealed(path: Path) -> bytes:
    """Return what :func:`write_sealed` has written.

    Raises:
        OSError: there is no such file.
        ValueError: it is torn, altered, or no file.
    """
    # A named pipe would be waited for.
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    return unseal(path.read_bytes())


def sweep(folder: Path) -> None:
    """Delete what processes that were killed while they wrote have left."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _SECONDS_UNTIL_LEFT_OVER:
                path.unlink()
