"""The parts of a FITS file one after the other, each looked at before astropy reads it."""

from collections.abc import Iterator
from typing import Any

BLOCK = 2880
_CARD = 80
# Ten thousand cards; headers of whole mosaics have a tenth.
_MOST_BLOCKS = 300
_MOST_PARTS = 100


class FitsError(Exception):
    """A file is no FITS file that can be read; the message is why."""


def check_header(content: bytes | memoryview, start: int) -> None:
    """Check that the header that begins at ``start`` comes to its end, before anybody looks for it.

    Raises:
        FitsError: it does not, or only after more cards than any header has.
    """
    for first in range(start, start + _MOST_BLOCKS * BLOCK, BLOCK):
        block = bytes(content[first : first + BLOCK])
        if len(block) < BLOCK:
            raise FitsError("FITS that was cut off")
        if any(block[card : card + 8] == b"END     " for card in range(0, BLOCK, _CARD)):
            return
    raise FitsError("FITS with a header without end")


def hdus_in(file: Any, content: bytes | memoryview) -> Iterator[Any]:
    """Yield each part (HDU) of a ``file`` that astropy has opened lazily from ``content``.

    Raises:
        FitsError: a header has no end, or there are more parts than any file has.
    """
    start = 0
    for number in range(_MOST_PARTS):
        if start >= len(content) or not bytes(content[start : start + BLOCK]).strip(b"\0"):
            return
        check_header(content, start)
        hdu = file[number]
        yield hdu
        place = hdu.fileinfo()
        start = max(start + BLOCK, place["datLoc"] + place["datSpan"])
    raise FitsError(f"FITS of more than {_MOST_PARTS} extensions")
