"""A ``.npy`` file written row by row, in which a disk that is too small is an error.

Into a file that is mapped to memory it would be a signal, which ends the process without a word.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from spacewarps.errors import SurveyError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_CLAIM = (errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP)
_BUFFER = 2**20

Append = Callable[[NDArray[np.generic]], None]


@contextmanager
def packed_rows(
    path: Path, *, dtype: np.dtype[np.generic], shape: tuple[int, ...], most: int, what: str
) -> Iterator[Append]:
    """Give a function that appends a row, ``shape`` of ``dtype``, to the new array at ``path``, ``[rows, *shape]``.

    The room for ``most`` rows is claimed before the first is made; what was not used is given back.

    Raises:
        SurveyError: the disk has no room for ``what`` the rows are.
    """
    size = most * dtype.itemsize * int(np.prod(shape))
    rows = 0
    try:
        with path.open("wb", buffering=_BUFFER) as file:
            # Padded for any number of rows, so that it can be written again in place.
            _write_header(file, dtype, (most, *shape))
            _claim(file, size)

            def append(row: NDArray[np.generic]) -> None:
                nonlocal rows
                file.write(np.ascontiguousarray(row).data)
                rows += 1

            yield append
            file.truncate()
            file.seek(0)
            _write_header(file, dtype, (rows, *shape))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        disk = path.parent.parent
        raise SurveyError(
            f"{disk}: no room for {what}, {size / 1e6:.1f} MB ({error.strerror}; the disk has "
            f"{shutil.disk_usage(disk).free / 1e6:.1f} MB free); make room, or choose a folder on another disk"
        ) from None


def sort_rows(path: Path, numbers: Sequence[int]) -> None:
    """Bring the rows of the array at ``path`` into the order of their ``numbers``, in place, one row in memory."""
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start, size = file.tell(), dtype.itemsize * int(np.prod(shape[1:]))

        def read(place: int) -> bytes:
            file.seek(start + place * size)
            return file.read(size)

        def write(place: int, row: bytes) -> None:
            file.seek(start + place * size)
            file.write(row)

        # Which row belongs to each place. Along each cycle of these one row waits, and the others move.
        wanted = np.argsort(np.asarray(numbers, np.int64)).tolist()
        for first in range(len(wanted)):
            if wanted[first] == first:
                continue
            waiting, place = read(first), first
            while wanted[place] != first:
                write(place, read(wanted[place]))
                wanted[place], place = place, wanted[place]
            write(place, waiting)
            wanted[place] = place


def _write_header(file: BinaryIO, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)


def _claim(file: BinaryIO, size: int) -> None:
    """Claim ``size`` bytes after what was written, where system and file system can."""
    file.flush()
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), file.tell(), size)
    except OSError as error:
        if error.errno not in _CANNOT_CLAIM:
            raise
