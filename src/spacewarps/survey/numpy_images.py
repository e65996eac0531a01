"""Stamps that NumPy wrote: one array in a ``.npy`` file, or one of those in an ``.npz``, with a mask beside it."""

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.formats import describe_foreign
from spacewarps.survey.images import MAX_BYTES, StampError, StampShape, check_channels
from spacewarps.survey.pixels import as_pixels, shape_of_axes

_MASK = "mask"
#: What reads the header of each version of the format.
HEADERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[np.generic]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class NumpyReader:
    """Reads ``.npy`` and ``.npz``.

    Args:
        extension: the name of the array of an ``.npz``; without it, the only one beside the mask.
    """

    extension: int | str | None = None

    def shape_of(self, content: bytes) -> StampShape:
        """Return what the header says; see :class:`~spacewarps.survey.readers.Reader`."""
        content, mask = self._arrays(content)
        axes, dtype = _header(content)
        shape = shape_of_axes(_channels_first(axes), "uint8" if dtype == np.uint8 and mask is None else "float32")
        if mask is not None and _header(mask)[0] != axes:
            raise StampError("mask of another shape than its stamp")
        return shape

    def decode(self, content: bytes, channels: int) -> NDArray[np.generic]:
        """Return the stamp, NaN where it is masked; see :class:`~spacewarps.survey.readers.Reader`."""
        shape = self.shape_of(content)
        check_channels(shape.channels, channels)
        content, mask = self._arrays(content)
        numbers = _read(content)
        if mask is not None:
            numbers = np.where(_read(mask) != 0, np.nan, numbers)
        if _channels_first(numbers.shape) != numbers.shape:
            numbers = numbers.transpose(2, 0, 1)
        return as_pixels(numbers, shape)

    def _arrays(self, content: bytes) -> tuple[bytes, bytes | None]:
        """Return the file of the stamp's array, and that of its mask."""
        if content.startswith(np.lib.format.MAGIC_PREFIX):
            return content, None
        if not content.startswith(b"PK\x03\x04"):
            raise StampError(describe_foreign(content, "NumPy"))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            names = [name for name in members if name != _MASK]
            if self.extension is not None:
                if self.extension not in names:
                    raise StampError(f"NumPy archive without the array {str(self.extension)!r:.80}")
                names = [str(self.extension)]
            if len(names) != 1:
                raise StampError(
                    f"NumPy archive of {len(names)} arrays, of which one would be read; name it by `stamp_extension`"
                )
            found = [_unzipped(archive, members[name]) for name in (names[0], _MASK) if name in members]
        return found[0], found[1] if len(found) > 1 else None


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise StampError("stamp of absurd size")
    return content


def _header(content: bytes) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return the shape and the type of the array in ``content``, which holds as many bytes as these claim."""
    file = io.BytesIO(content)
    read_header = HEADERS.get(np.lib.format.read_magic(file))
    if read_header is None:
        raise StampError("NumPy array that is not one of numbers")
    shape, _, dtype = read_header(file)
    # An array of objects is a pickle, which can run code.
    if dtype.hasobject or dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype.subdtype is not None:
        raise StampError(f"NumPy array of {dtype.str:.20}, where a pixel must be a real number")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise StampError("damaged stamp")
    return shape, dtype


def _read(content: bytes) -> NDArray[np.generic]:
    _header(content)
    numbers: NDArray[np.generic] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return numbers.view(np.uint8) if numbers.dtype.kind == "b" else numbers


def _channels_first(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes with the channels before height and width: of three, they are the shorter of first and last."""
    if len(axes) != 3 or axes[0] < axes[2]:
        return axes
    if axes[0] == axes[2]:
        raise StampError("array of three axes, of which the first is as long as the last; which are the channels?")
    return axes[2], axes[0], axes[1]
