"""Reading files of which nothing is known yet: they may be pipes, huge, or of another shape."""

import errno
import hashlib
import stat
from pathlib import Path
from typing import TypeVar

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
