"""Reading files that may be anything, and writing files and folders so that a reader never sees half of one."""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

# Far more than any description or report of this project.
MAX_JSON_BYTES = 1 << 26

Shape = TypeVar("Shape", bound=BaseModel)


def check_file(path: Path) -> None:
    """Look at ``path`` without opening it: a pipe or a device might never come to an end.

    Raises:
        OSError: there is nothing, or no regular file.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))


def read_bytes(path: Path, *, at_most: int) -> bytes:
    """Return what the file at ``path`` holds.

    Raises:
        OSError: it cannot be read, is no regular file, or holds more than ``at_most`` bytes.
    """
    check_file(path)
    with path.open("rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"larger than {at_most:,} bytes", str(path))
    return content


def read_json(path: Path, shape: type[Shape]) -> Shape:
    """Return the JSON in the file at ``path`` as ``shape``.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: it is no JSON, or of another shape; the message is one line.
    """
    content = read_bytes(path, at_most=MAX_JSON_BYTES)
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def first_fault(error: ValidationError) -> str:
    """Return the first of the faults that pydantic found, and its place, as one line."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place!r:.80}: {fault['msg']:.200}" if place else f"{fault['msg']:.200}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 hash of the file at ``path``, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that takes its place when the block ends without an error.

    What stood at ``path`` before is untouched if the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # mkdtemp makes folders for their owner alone; outputs have the permissions of any other new folder.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        yield temporary
        # Moved aside and deleted afterwards: deleting takes long enough for a reader to see half of the old folder.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as aside:
            if path.exists():
                path.rename(Path(aside, "old"))
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a temporary file name beside ``path`` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` at once."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON that reads well and has the same bytes every time."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
