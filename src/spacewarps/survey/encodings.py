"""How the text of a catalogue is encoded: by its byte-order mark, as UTF-8, or else as Windows-1252."""

import codecs
from collections.abc import Iterable

#: What Windows wrote where it did not write UTF-8; Latin-1 is part of it, but for control characters.
WINDOWS = "cp1252"
# That of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\r\f") | {0x7F, 0x81, 0x8D, 0x8F, 0x90, 0x9D}


class EncodingError(Exception):
    """A file is text in no encoding that is read; the message says why, and follows the name of the file."""


def marked_encoding(start: bytes) -> str | None:
    """Return the encoding that the byte-order mark in ``start`` names; None if there is none."""
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None)


def check_windows(lines: Iterable[bytes]) -> None:
    """Check that text which is not UTF-8 can be in :data:`WINDOWS`.

    Bytes of any such text would have a meaning there, so what hints at another encoding is refused.

    Raises:
        EncodingError: there are bytes that have none, or other lines are UTF-8.
    """
    utf8 = other = ""
    before = 0
    for line in lines:
        fault = next((place for place, byte in enumerate(line) if byte in _NO_TEXT), None)
        if fault is not None:
            raise EncodingError(f"not UTF-8 text, nor Windows-1252 ({_place(line, fault, before)})")
        if not line.isascii():
            try:
                line.decode("utf-8")
                utf8 = utf8 or f"line {before + 1}"
            except UnicodeDecodeError as error:
                other = other or _place(line, error.start, before)
        if utf8 and other:
            raise EncodingError(f"neither UTF-8 text ({other}) nor another encoding ({utf8} is UTF-8)")
        before += len(line.splitlines())


def _place(line: bytes, start: int, before: int) -> str:
    number = before + len(line[: start + 1].splitlines())
    return f"byte 0x{line[start]:02x} in line {number}"
