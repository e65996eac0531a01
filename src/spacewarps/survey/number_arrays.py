"""An array of numbers in a file, as long as memory is not: rows are read one by one, whatever holds them.

What a file says of its array becomes a :class:`Layout`. Then bytes are read and unpacked here, to a bound, and nothing
of the library that knows the format is asked again.
"""

import math
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.images import MAX_BYTES, StampError

#: What the chunks that hold one row may have together, unpacked.
MAX_BAND = 2**28
# Of one row; a stamp in more of them is read too slowly to be of use.
_MOST_CHUNKS_OF_A_ROW = 4096
# A checksum stands behind what was packed.
_CHECKSUM = 4
_KINDS = "biuf"
_WIDEST = 8
#: Why a row has no stamp.
DAMAGED = "damaged stamp"
NEVER_WRITTEN = "row of the array that was never written"


Read = Callable[[int, int], bytes]


class ArrayError(Exception):
    """A file holds no array of stamps that can be read; the message is why."""


@dataclass(frozen=True)
class Scaling:
    """What FITS makes of stored numbers: times ``scale``, plus ``zero``; ``blank`` means that there is none."""

    scale: float = 1
    zero: float = 0
    blank: int | None = None


class Chunks(Protocol):
    """The pieces of an array, each packed by itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a piece."""

    def check(self, length: int) -> None:
        """Check that all of them lie in a file of so many bytes.

        Raises:
            ArrayError: one does not.
        """

    def unpacked(self, read: Read, number: int, expected: int, item: int) -> bytes:
        """Return the bytes of one.

        Args:
            read: returns so many bytes from some offset of the file.
            number: which, counted along the last axis first.
            expected: how many bytes it should have; never many more are unpacked.
            item: how many a number has.

        Raises:
            StampError: it is damaged, or was never written.
        """


@dataclass(frozen=True)
class ChunkTable:
    """Where in the file each piece is; see :class:`Chunks`.

    Args:
        shape: of a piece.
        filters: what packed it, in that order: ``shuffle``, ``deflate`` or ``fletcher32``.
        numbers: which pieces there are, counted along the last axis first; sorted.
        offsets: where each begins in the file.
        sizes: how many bytes of the file it takes.
        skipped: of each a bit for each filter that was left out.
    """

    shape: tuple[int, ...]
    filters: tuple[str, ...]
    numbers: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    skipped: NDArray[np.int64]

    def check(self, length: int) -> None:
        """Compare each with the file's length."""
        ends = self.offsets + self.sizes
        if len(ends) and not (
            (self.offsets >= 0).all() and (self.sizes >= 0).all() and (ends >= 0).all() and int(ends.max()) <= length
        ):
            raise ArrayError("array with chunks beyond the end of its file; it was cut off")

    def unpacked(self, read: Read, number: int, expected: int, item: int) -> bytes:
        """Return the bytes of one, read where the table says."""
        at = int(np.searchsorted(self.numbers, number))
        if at == len(self.numbers) or self.numbers[at] != number:
            raise StampError(NEVER_WRITTEN)
        size = int(self.sizes[at])
        # What cannot be packed smaller is hardly larger.
        if size > 2 * expected + 2**16:
            raise StampError(DAMAGED)
        content = read(int(self.offsets[at]), size)
        for bit, name in reversed([*enumerate(self.filters)]):
            if not int(self.skipped[at]) >> bit & 1:
                content = _UNPACK[name](content, expected, item)
        return content


@dataclass(frozen=True)
class Layout:
    """What a file says of its array.

    Args:
        dtype: of a number, with its order of bytes.
        shape: the first axis is that of the stamps.
        offset: where the array begins in the file, if it lies there in one piece.
        chunks: its pieces, if it does not.
        scaling: what its numbers mean.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int | None = None
    chunks: Chunks | None = None
    scaling: Scaling = field(default_factory=Scaling)


def check_layout(layout: Layout, length: int) -> None:
    """Check that stamps can be read from a file of so many bytes with so much memory.

    Raises:
        ArrayError: they cannot.
    """
    dtype, shape = layout.dtype, layout.shape
    # An array of objects is a pickle, which can run code.
    if dtype.hasobject or dtype.kind not in _KINDS or dtype.itemsize > _WIDEST or dtype.subdtype is not None:
        raise ArrayError(f"array of {dtype.str:.20}, where a pixel must be a real number")
    if len(shape) not in (3, 4):
        raise ArrayError(
            f"array of {len(shape)} axes, where stamps have three, [stamps, height, width], or four with channels"
        )
    if min(shape) < 1:
        raise ArrayError(f"array of the shape {list(shape)}, which holds no stamp")
    if math.prod(shape[1:]) * dtype.itemsize > MAX_BYTES:
        raise ArrayError(f"array of the shape {list(shape)}, whose stamps are of absurd size")
    chunks = layout.chunks
    if chunks is None:
        if layout.offset is None or layout.offset + math.prod(shape) * dtype.itemsize > length:
            raise ArrayError(f"array of the shape {list(shape)}, which is more than the file holds; it was cut off")
        return
    if len(chunks.shape) != len(shape) or min(chunks.shape) < 1:
        raise ArrayError("array in chunks without a size; it is damaged")
    pieces = math.prod(_pieces(layout)[1:])
    band = pieces * math.prod(chunks.shape) * dtype.itemsize
    if pieces > _MOST_CHUNKS_OF_A_ROW or band > MAX_BAND:
        raise ArrayError(
            f"array in chunks of the shape {list(chunks.shape)}, of which one stamp takes {pieces} with "
            f"{band / 1e6:,.0f} MB; write it with chunks of one or a few whole stamps"
        )
    chunks.check(length)


def _pieces(layout: Layout) -> tuple[int, ...]:
    """Return how many chunks there are along each axis."""
    assert layout.chunks is not None
    return tuple(-(-axis // piece) for axis, piece in zip(layout.shape, layout.chunks.shape, strict=True))


class NumberArray:
    """The rows of the array in ``file``, which is held open until nobody needs it any more.

    Args:
        file: the file.
        layout: of its array, checked.
    """

    def __init__(self, file: Path, layout: Layout) -> None:
        self._layout = layout
        self._descriptor = os.open(file, os.O_RDONLY)
        self._lock = threading.Lock()
        self._unpacked: OrderedDict[int, NDArray[np.generic]] = OrderedDict()

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def row(self, number: int) -> NDArray[np.generic]:
        """Return one row as it is stored; read those of one chunk one after the other, as few chunks are kept.

        Raises:
            StampError: it is damaged, or was never written.
        """
        layout = self._layout
        if layout.chunks is not None:
            return self._from_chunks(number, layout.chunks)
        size = math.prod(layout.shape[1:]) * layout.dtype.itemsize
        assert layout.offset is not None
        return np.frombuffer(self._read(layout.offset + number * size, size), layout.dtype).reshape(layout.shape[1:])

    def numbers(self, number: int) -> NDArray[np.generic]:
        """Return one row as numbers in the machine's order of bytes; NaN where there is none.

        Raises:
            StampError: as :meth:`row`.
        """
        stored, scaling = self.row(number), self._layout.scaling
        numbers = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        if numbers.dtype.kind == "b":
            return numbers.view(np.uint8)
        if scaling == Scaling():
            return numbers
        scaled: NDArray[np.generic]
        if numbers.dtype.kind in "iu" and scaling.scale == 1 and scaling.zero == int(scaling.zero):
            # Unsigned integers, which FITS stores as signed ones; 2**63 and above are beyond what is read.
            scaled = numbers.astype(np.int64) + int(scaling.zero) if abs(scaling.zero) < 2**62 else numbers
        else:
            scaled = numbers * np.float64(scaling.scale) + np.float64(scaling.zero)
        return scaled if scaling.blank is None else np.where(numbers == scaling.blank, np.nan, scaled)

    def _read(self, offset: int, size: int) -> bytes:
        content = os.pread(self._descriptor, size, offset)
        # One call reads at most 2 GiB, which no row has; the file has become shorter.
        if len(content) < size:
            raise StampError(DAMAGED)
        return content

    def _from_chunks(self, number: int, chunks: Chunks) -> NDArray[np.generic]:
        layout = self._layout
        row = np.empty(layout.shape[1:], layout.dtype)
        first, inside = divmod(number, chunks.shape[0])
        pieces = _pieces(layout)
        with self._lock:
            for place in product([first], *map(range, pieces[1:])):
                chunk = self._chunk(int(np.ravel_multi_index(place, pieces)), chunks)
                starts = [at * length for at, length in zip(place[1:], chunks.shape[1:], strict=True)]
                target = row[tuple(map(slice, starts, (s + c for s, c in zip(starts, chunks.shape[1:], strict=True))))]
                target[...] = chunk[inside][tuple(slice(length) for length in target.shape)]
        return row

    def _chunk(self, number: int, chunks: Chunks) -> NDArray[np.generic]:
        known = self._unpacked.get(number)
        if known is not None:
            self._unpacked.move_to_end(number)
            return known
        expected, item = math.prod(chunks.shape) * self._layout.dtype.itemsize, self._layout.dtype.itemsize
        content = chunks.unpacked(self._read, number, expected, item)
        if len(content) != expected:
            raise StampError(DAMAGED)
        unpacked = np.frombuffer(content, self._layout.dtype).reshape(chunks.shape)
        self._unpacked[number] = unpacked
        while len(self._unpacked) > 1 and sum(one.nbytes for one in self._unpacked.values()) > MAX_BAND:
            self._unpacked.popitem(last=False)
        return unpacked


def inflate(content: bytes, expected: int, _item: int = 1) -> bytes:
    """Return what zlib has packed into ``content``, as far as it is hardly longer than ``expected``.

    Raises:
        StampError: it is damaged.
    """
    try:
        return zlib.decompressobj().decompress(content, expected + _CHECKSUM + 1)
    except zlib.error:
        raise StampError(DAMAGED) from None


def _unshuffle(content: bytes, _expected: int, item: int) -> bytes:
    """Return bytes that were sorted by their place in a number in the order of the numbers."""
    whole = len(content) // item * item
    return np.frombuffer(content[:whole], np.uint8).reshape(item, -1).T.tobytes() + content[whole:]


def _without_checksum(content: bytes, _expected: int, _item: int) -> bytes:
    """Return what stands before Fletcher's checksum, once it is right."""
    body, told = content[:-_CHECKSUM], content[-_CHECKSUM:]
    words = np.frombuffer(body + b"\0" * (len(body) % 2), ">u2").astype(np.uint64)
    # Each word counts once in the first sum, and as often in the second as there are words from it on.
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % np.uint64(65535)
    first, second = int(words.sum()) % 65535, int((words * weights % np.uint64(65535)).sum()) % 65535
    found = int.from_bytes(told, "little")
    if len(told) < _CHECKSUM or (found & 0xFFFF) % 65535 != first or (found >> 16) % 65535 != second:
        raise StampError(DAMAGED)
    return body


_UNPACK: dict[str, Callable[[bytes, int, int], Any]] = {
    "deflate": inflate,
    "shuffle": _unshuffle,
    "fletcher32": _without_checksum,
}
