"""Zarr, versions 2 and 3: where the chunks of an array are, each a file of a folder, and how they are packed."""

import errno
import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spacewarps.reading import check_file, read_bytes
from spacewarps.survey.images import StampError
from spacewarps.survey.number_arrays import DAMAGED, NEVER_WRITTEN, ArrayError, Layout, inflate

# What describes an array or a group, by version.
_DESCRIPTIONS = ("zarr.json", ".zarray", ".zgroup")
_LONGEST_DESCRIPTION = 2**20
_DEEPEST = 3
_MOST_FOLDERS = 10_000
_MOST_BYTES_OF_IDS = 2**28
_BLOSC_HEADER = 16
# Among them: larger than what it holds can be.
_FAULTS_OF_A_FILE = {errno.EACCES, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.EPERM}
_ZSTD = b"\x28\xb5\x2f\xfd"
_ENDS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}


@dataclass(frozen=True)
class ChunkFiles:
    """The chunks of an array; see :class:`~spacewarps.survey.number_arrays.Chunks`.

    Args:
        shape: of a chunk.
        folder: that of the array.
        grid: how many there are along each axis.
        prefix: what the name of each begins with.
        separator: what stands between the numbers in its name.
        codecs: what packed it, in that order.
    """

    shape: tuple[int, ...]
    folder: Path
    grid: tuple[int, ...]
    prefix: str
    separator: str
    codecs: tuple[str, ...]

    def check(self, _length: int) -> None:
        """Leave it to the files, which are looked at one by one."""

    def unpacked(self, _read: Any, number: int, expected: int, _item: int) -> bytes:
        """Return the bytes of a chunk, which should be ``expected``.

        Raises:
            StampError: there is no such file, or it is damaged.
        """
        place = np.unravel_index(number, self.grid)
        file = self.folder / (self.prefix + self.separator.join(str(int(at)) for at in place))
        try:
            check_file(file)
            content = read_bytes(file, at_most=2 * expected + 2**16)
        except FileNotFoundError:
            raise StampError(NEVER_WRITTEN) from None
        except OSError as error:
            if error.errno not in _FAULTS_OF_A_FILE:
                raise
            raise StampError(DAMAGED) from None
        for codec in reversed(self.codecs):
            content = _UNPACK[codec](content, expected)
        return content


def is_zarr(path: Path) -> bool:
    """Say whether ``path`` is a folder that Zarr wrote."""
    return any((path / name).is_file() for name in _DESCRIPTIONS)


def read_zarr(folder: Path, array: str, ids: str | None) -> tuple[Layout, list[str] | None]:
    """Return how the array in ``folder`` lies there, and the ids that stand beside it.

    Args:
        folder: the store.
        array: the name of the array; empty for the only one.
        ids: the name of the ids beside it, if they are wanted.

    Raises:
        ArrayError: it is damaged, packed in a way that is not read, or there is no such array.
    """
    place = _named(folder, array) if array else _only(folder)
    layout = _layout(place, _description(place))
    beside = place.parent / ids if ids and place != folder and "/" not in ids and ids not in (".", "..") else None
    return layout, _ids(beside) if beside is not None and is_zarr(beside) else None


def _named(folder: Path, array: str) -> Path:
    parts = array.split("/")
    if any(part in ("", ".", "..") for part in parts) or not is_zarr(folder.joinpath(*parts)):
        raise ArrayError(f"Zarr without the array {array!r:.80}")
    return folder.joinpath(*parts)


def _only(folder: Path) -> Path:
    """Return the folder of the only array with three or four axes."""
    found, waiting, seen = [], [(folder, 0)], 0
    while waiting:
        place, depth = waiting.pop()
        described = _description(place)
        if "shape" in described:
            found += [place] if len(described["shape"]) in (3, 4) else []
        elif depth < _DEEPEST:
            with os.scandir(place) as entries:
                below = sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
            waiting += [(each, depth + 1) for each in below if is_zarr(each)]
        seen += 1
        if seen > _MOST_FOLDERS:
            raise ArrayError(f"Zarr of more than {_MOST_FOLDERS} groups and arrays; name one by `stamp_extension`")
    if len(found) != 1:
        names = ", ".join(repr(str(place.relative_to(folder)))[:60] for place in sorted(found)[:3])
        raise ArrayError(
            f"Zarr of {len(found)} arrays of three or four axes{f' ({names})' if names else ''}, of which one would be "
            "read; name it by `stamp_extension`"
        )
    return found[0]


def _description(place: Path) -> Mapping[str, Any]:
    """Return what describes an array or a group."""
    file = next((place / name for name in _DESCRIPTIONS if (place / name).is_file()), place / _DESCRIPTIONS[0])
    try:
        described = json.loads(read_bytes(file, at_most=_LONGEST_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        raise ArrayError("damaged Zarr (its description cannot be read)") from None
    if not isinstance(described, dict) or (described.get("shape") is not None and not _is_shape(described["shape"])):
        raise ArrayError("damaged Zarr (its description is none)")
    return described


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(axis) is int and 0 <= axis < 2**48 for axis in value)


def _layout(place: Path, described: Mapping[str, Any]) -> Layout:
    if "shape" not in described:
        raise ArrayError("Zarr whose `stamp_extension` names a group and no array")
    try:
        dtype, chunk, prefix, separator, codecs = (_version_2 if "chunks" in described else _version_3)(described)
        shape = tuple(described["shape"])
        if (
            not _is_shape(chunk)
            or len(chunk) != len(shape)
            or not chunk
            or min(chunk) < 1
            or separator not in (".", "/")
        ):
            raise ArrayError("damaged Zarr (its chunks are none)")
    except ArrayError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, SyntaxError):
        raise ArrayError("damaged Zarr (its description lacks something)") from None
    unknown = next((codec for codec in codecs if codec not in _UNPACK), None)
    if unknown is not None:
        raise ArrayError(f"Zarr packed by {unknown!r:.40}; write it with zstd, blosc, gzip or zlib alone")
    if set(codecs) & {"zstd", "blosc"}:
        try:
            # Only here, as it need not be installed.
            import numcodecs  # noqa: F401
        except ImportError:
            raise ArrayError("Zarr, which is read by numcodecs; install it by pip install 'spacewarps[zarr]'") from None
    grid = tuple(-(-axis // piece) for axis, piece in zip(shape, chunk, strict=True))
    return Layout(dtype, shape, chunks=ChunkFiles(tuple(chunk), place, grid, prefix, separator, tuple(codecs)))


_Parts = tuple[np.dtype[Any], list[int], str, str, list[str]]


def _version_2(described: Mapping[str, Any]) -> _Parts:
    if described.get("order", "C") != "C" or described.get("filters"):
        raise ArrayError("Zarr in the order of Fortran, or with filters; write it in the order of C without them")
    compressor = described["compressor"]
    codecs = [] if compressor is None else [str(compressor["id"])]
    return np.dtype(str(described["dtype"])), described["chunks"], "", described.get("dimension_separator", "."), codecs


def _version_3(described: Mapping[str, Any]) -> _Parts:
    keys, codecs = described["chunk_key_encoding"], list(described["codecs"])
    if described["chunk_grid"]["name"] != "regular" or keys["name"] not in ("default", "v2"):
        raise ArrayError(
            "Zarr whose chunks are not all of one shape, or named in another way; write it with the defaults"
        )
    first, *others = codecs
    if first["name"] != "bytes":
        raise ArrayError(f"Zarr packed by {str(first['name'])!r:.40}; write it with zstd, blosc, gzip or zlib alone")
    end = _ENDS[(first.get("configuration") or {}).get("endian", "little")]
    separator = (keys.get("configuration") or {}).get("separator", "/" if keys["name"] == "default" else ".")
    prefix = f"c{separator}" if keys["name"] == "default" else ""
    chunk = described["chunk_grid"]["configuration"]["chunk_shape"]
    return (
        _type_3(described["data_type"]).newbyteorder(end),
        chunk,
        prefix,
        separator,
        [str(one["name"]) for one in others],
    )


def _type_3(told: Any) -> np.dtype[Any]:
    if isinstance(told, dict):
        length = told["configuration"]["length_bytes"]
        kinds = {"fixed_length_utf32": f"U{length // 4}", "null_terminated_bytes": f"S{length}"}
        return np.dtype(kinds[told["name"]])
    return np.dtype(str(told))


def _ids(place: Path) -> list[str]:
    """Return the ids in the array at ``place``, as text."""
    layout = _layout(place, _description(place))
    dtype, chunks = layout.dtype, layout.chunks
    if (
        dtype.kind not in "iuUS"
        or len(layout.shape) != 1
        or not 0 < dtype.itemsize * layout.shape[0] <= _MOST_BYTES_OF_IDS
    ):
        raise ArrayError(
            f"Zarr whose ids are {dtype.str:.20} of the shape {list(layout.shape)}; write integers or text"
        )
    assert isinstance(chunks, ChunkFiles)
    size = math.prod(chunks.shape)
    if size * dtype.itemsize > _MOST_BYTES_OF_IDS:
        raise ArrayError("Zarr whose ids stand in chunks of absurd size")
    found: list[str] = []
    try:
        for number in range(chunks.grid[0]):
            content = chunks.unpacked(None, number, size * dtype.itemsize, dtype.itemsize)
            values = np.frombuffer(content, dtype)[: layout.shape[0] - number * size].tolist()
            found += [one.decode() if isinstance(one, bytes) else str(one) for one in values]
    except (StampError, ValueError):
        raise ArrayError("damaged Zarr (its ids cannot be read)") from None
    if len(found) != layout.shape[0]:
        raise ArrayError("damaged Zarr (its ids cannot be read)")
    return found


def _gunzip(content: bytes, expected: int) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, expected + 1)
    except zlib.error:
        raise StampError(DAMAGED) from None


def _unblosc(content: bytes, expected: int) -> bytes:
    """Unpack what says beforehand how long it will be, and is as long as it says."""
    import numcodecs.blosc

    told = [int.from_bytes(content[at : at + 4], "little") for at in (4, 12)]
    if len(content) < _BLOSC_HEADER or told != [expected, len(content)]:
        raise StampError(DAMAGED)
    try:
        return bytes(numcodecs.blosc.decompress(content))
    except (RuntimeError, ValueError):
        raise StampError(DAMAGED) from None


def _unzstd(content: bytes, expected: int) -> bytes:
    """Unpack what says beforehand how long it will be."""
    import numcodecs.zstd

    if _length_of_zstd(content) != expected:
        raise StampError(DAMAGED)
    try:
        return bytes(numcodecs.zstd.decompress(content))
    except (RuntimeError, ValueError):
        raise StampError(DAMAGED) from None


def _length_of_zstd(content: bytes) -> int | None:
    """Return how long a frame of Zstandard says that its content is (RFC 8878, 3.1.1.1)."""
    if not content.startswith(_ZSTD) or len(content) <= len(_ZSTD):
        return None
    flags = content[4]
    is_single = flags >> 5 & 1
    start = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    size = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
    if not size:
        return None
    return int.from_bytes(content[start : start + size], "little") + (256 if size == 2 else 0)


_UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "blosc": _unblosc,
    "gzip": _gunzip,
    "zlib": inflate,
    "zstd": _unzstd,
}
