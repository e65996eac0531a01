"""What a message of Arrow's IPC format says of its batch, before anything of it is unpacked.

A message describes its body as a FlatBuffer (``Message.fbs`` of Apache Arrow). Arrow checks that the offsets in it stay
there, and makes room for whatever length a packed buffer claims.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
# Of Arrow 0.17, which said elsewhere that buffers are packed.
_EARLY_COMPRESSION = b"experimental_compression"
_NOT_PACKED = -1


class Batch(NamedTuple):
    """A batch of rows, or of the values of a dictionary.

    Args:
        rows: how many it has; 0 for a dictionary.
        unpacked: how many bytes its packed buffers claim to become.
    """

    rows: int
    unpacked: int


def describe_batch(metadata: memoryview, body: memoryview) -> Batch | None:
    """Return what the message of ``metadata`` and ``body`` holds; None if that is no batch.

    Raises:
        ValueError: it is damaged.
    """
    try:
        message = _table(metadata, 0)
        [kind] = struct.unpack_from("<B", metadata, _field(metadata, message, 1))
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return None
        batch = _table(metadata, _field(metadata, message, 2))
        rows = 0
        if kind == _DICTIONARY_BATCH:
            batch = _table(metadata, _field(metadata, batch, 1))
        elif place := _field(metadata, batch, 0):
            [rows] = struct.unpack_from("<q", metadata, place)
        is_packed = _field(metadata, batch, 3) or _EARLY_COMPRESSION in bytes(metadata)
        return Batch(rows, sum(_claims(metadata, batch, body)) if is_packed else 0)
    except struct.error:
        raise ValueError("a message that leads out of itself") from None


def _claims(metadata: memoryview, batch: int, body: memoryview) -> Iterator[int]:
    """Yield how many bytes each packed buffer claims to become."""
    place = _field(metadata, batch, 2)
    if not place:
        return
    vector = place + struct.unpack_from("<I", metadata, place)[0]
    [count] = struct.unpack_from("<I", metadata, vector)
    for number in range(count):
        offset, length = struct.unpack_from("<qq", metadata, vector + 4 + 16 * number)
        if length > 0:
            [claim] = struct.unpack_from("<q", body, offset)
            if claim < _NOT_PACKED:
                raise ValueError("a buffer of less than no bytes")
            yield length if claim == _NOT_PACKED else claim


def _table(content: memoryview, place: int) -> int:
    """Return where the table begins to which the offset at ``place`` leads."""
    start: int = place + struct.unpack_from("<I", content, place)[0]
    return start


def _field(content: memoryview, table: int, number: int) -> int:
    """Return where a field of a table is, 0 if it is not there."""
    entries = table - struct.unpack_from("<i", content, table)[0]
    if entries < 0:
        raise struct.error
    [size] = struct.unpack_from("<H", content, entries)
    if 4 + 2 * number >= size:
        return 0
    [offset] = struct.unpack_from("<H", content, entries + 4 + 2 * number)
    return table + offset if offset else 0
