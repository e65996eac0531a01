"""Says what an HDF5 file holds; a program of its own, since a damaged file can end the process that opens it.

    python hdf5_reporter.py FILE ARRAY IDS SECONDS

ARRAY is the name of the array, or empty for the only one with three or four axes; IDS is that of the ids beside it. It
writes an ``.npz`` to its output: what is wrong as ``fault``, or what :mod:`spacewarps.survey.hdf5_arrays` reads. It
follows no link out of the file, unpacks nothing of the array and uses no plugin.
"""

import io
import json
import resource
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5z

_MOST_BYTES = 2**30
_MOST_IDS = 20_000_000
_LONGEST_ID = 4096
_MOST_OBJECTS = 10_000
_DEEPEST = 8
_FILTERS = {h5z.FILTER_DEFLATE: "deflate", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32"}
_OTHERS = {h5z.FILTER_SZIP: "szip", h5z.FILTER_NBIT: "nbit", h5z.FILTER_SCALEOFFSET: "scaleoffset", 32000: "lzf"}


class ReportError(Exception):
    """The file cannot be used; the message is why."""


def report(file: Path, array: str, ids: str) -> dict[str, Any]:
    """Return what ``file`` holds: ``about`` as JSON, and arrays.

    Raises:
        ReportError: it cannot be used.
    """
    with h5py.File(file, "r", locking=False) as root:
        if root.userblock_size:
            raise ReportError("HDF5 behind a block of another format, as MATLAB writes it; write it again with h5py")
        name = array or _only_array(root)
        dataset = _dataset(root, name)
        parent = name.rpartition("/")[0]
        found = _of_array(dataset, name)
        # A name with a slash could lead anywhere.
        if ids and "/" not in ids and dataset.parent.get(ids, getlink=True) is not None:
            found["ids"] = _ids(root, f"{parent}/{ids}" if parent else ids)
        return found


def _only_array(root: h5py.File) -> str:
    """Return the name of the only array of numbers with three or four axes."""
    found: list[str] = []
    groups, seen = [("", root, 0)], 0
    while groups:
        path, group, depth = groups.pop()
        for name in group:
            seen += 1
            if seen > _MOST_OBJECTS:
                raise ReportError(f"HDF5 of more than {_MOST_OBJECTS} objects; name the array by `stamp_extension`")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group) and depth < _DEEPEST:
                groups.append((f"{path}{name}/", item, depth + 1))
            elif isinstance(item, h5py.Dataset) and item.ndim in (3, 4):
                found.append(f"{path}{name}")
    if len(found) != 1:
        told = f" ({', '.join(repr(name[:40]) for name in sorted(found)[:3])})" if found else ""
        raise ReportError(
            f"HDF5 of {len(found)} arrays of three or four axes{told}, of which one would be read; name it by "
            "`stamp_extension`"
        )
    return found[0]


def _dataset(root: h5py.File, name: str) -> h5py.Dataset:
    """Return the array ``name``, to which no link leads that could lead elsewhere."""
    item: Any = root
    for part in filter(None, name.split("/")):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise ReportError(f"HDF5 whose {name[:80]!r} is a link to another place, which is not followed")
        if link is None:
            there = ", ".join(repr(one[:40]) for one in list(root)[:12])
            raise ReportError(f"HDF5 without the array {name[:80]!r}; it holds {there or 'nothing'}")
        item = item[part]
    if not isinstance(item, h5py.Dataset):
        raise ReportError(f"HDF5 whose {name[:80]!r} is a group and no array; name the array by `stamp_extension`")
    plist = item.id.get_create_plist()
    if item.is_virtual or plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
        raise ReportError(f"HDF5 whose {name[:80]!r} has its numbers in other files, which are not read")
    return item


def _filters(dataset: h5py.Dataset) -> list[str]:
    plist = dataset.id.get_create_plist()
    found = []
    for number in range(plist.get_nfilters()):
        code = plist.get_filter(number)[0]
        if code not in _FILTERS:
            name = _OTHERS.get(code, f"the plugin {code}")
            raise ReportError(
                f"HDF5 packed by {name}; write it with compression='gzip' or none (h5repack -f GZIP=4 IN OUT)"
            )
        found.append(_FILTERS[code])
    return found


def _of_array(dataset: h5py.Dataset, name: str) -> dict[str, Any]:
    if dataset.dtype.hasobject or dataset.dtype.kind not in "biuf":
        raise ReportError(
            f"HDF5 whose {name[:80]!r} holds {dataset.dtype.str[:20]}, where a pixel must be a real number"
        )
    about: dict[str, Any] = {"name": name, "dtype": dataset.dtype.str, "shape": dataset.shape, "offset": None}
    layout = dataset.id.get_create_plist().get_layout()
    if layout == h5d.CONTIGUOUS:
        about["offset"] = dataset.id.get_offset()
        if about["offset"] is None:
            raise ReportError(f"HDF5 whose {name[:80]!r} was never written")
        return {"about": json.dumps(about)}
    if layout != h5d.CHUNKED:
        raise ReportError(
            f"HDF5 whose {name[:80]!r} lies in its header (compact); write it again, contiguous or in chunks"
        )
    about |= {"chunk": dataset.chunks, "filters": _filters(dataset)}
    grid = [-(-axis // piece) for axis, piece in zip(dataset.shape, dataset.chunks, strict=True)]
    known: list[tuple[int, int, int, int]] = []

    def note(chunk: Any) -> None:
        place = [at // piece for at, piece in zip(chunk.chunk_offset, dataset.chunks, strict=True)]
        number = 0
        for at, count in zip(place, grid, strict=True):
            number = number * count + at
        known.append((number, chunk.byte_offset, chunk.size, chunk.filter_mask))

    dataset.id.chunk_iter(note)
    return {"about": json.dumps(about), "chunks": np.array(sorted(known), np.int64).reshape(-1, 4)}


def _ids(root: h5py.File, name: str) -> Any:
    """Return the ids in the array ``name``, as text."""
    dataset = _dataset(root, name)
    if dataset.ndim != 1 or len(dataset) > _MOST_IDS:
        raise ReportError(f"HDF5 whose ids, {name[:80]!r}, are of the shape {list(dataset.shape)}; they need one axis")
    # What unpacks its ids could unpack to anything; the limits of this process are what ends it.
    _filters(dataset)
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None:
        values = [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in dataset[()]]
    elif dataset.dtype.kind in "iu":
        values = [str(value) for value in dataset[()].tolist()]
    else:
        raise ReportError(
            f"HDF5 whose ids, {name[:80]!r}, are {dataset.dtype.str[:20]}; write them as text or integers"
        )
    if any(len(value) > _LONGEST_ID for value in values):
        raise ReportError(f"HDF5 with an id of more than {_LONGEST_ID} characters")
    return np.frombuffer(json.dumps(values).encode(), np.uint8)


def _limit(seconds: int) -> None:
    """Let this process have a gigabyte more than it has, and so many seconds."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + _MOST_BYTES, used + _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Write the report."""
    file, array, ids, seconds = sys.argv[1:]
    _limit(int(seconds))
    try:
        found = report(Path(file), array, ids)
    except ReportError as error:
        found = {"fault": str(error)}
    except UnicodeDecodeError:
        found = {"fault": "HDF5 whose ids are no text of UTF-8"}
    except Exception as error:
        # A damaged file fails in as many ways as HDF5 has parts.
        found = {"fault": f"damaged HDF5 ({' '.join(str(error).split())[:120]})"}
    answer = io.BytesIO()
    np.savez(answer, **found)
    sys.stdout.buffer.write(answer.getvalue())


if __name__ == "__main__":
    main()
