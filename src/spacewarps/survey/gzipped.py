"""What gzip has packed, unpacked to a bound: a few kilobytes can claim to be gigabytes."""

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_AT_ONCE = 2**20
MAGIC = b"\x1f\x8b"


class GzipError(Exception):
    """Something is no gzip, cut off, or becomes larger than its bound; the message is which, as a noun's attribute."""


def gunzip(content: bytes, *, at_most: int) -> bytes:
    """Return what ``content`` unpacks to, all of its members.

    Raises:
        GzipError: it is damaged, or more than ``at_most`` bytes.
    """
    parts: list[bytes] = []
    size, rest = 0, content
    while rest:
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            try:
                part = member.decompress(rest, min(_AT_ONCE, at_most + 1 - size))
            except zlib.error:
                # What follows the last member is padding, as tapes have it.
                if parts and not rest.strip(b"\0"):
                    return b"".join(parts)
                raise GzipError("damaged gzip") from None
            rest = member.unconsumed_tail
            if not part and not rest and not member.eof:
                raise GzipError("gzip that was cut off")
            parts.append(part)
            size += len(part)
            if size > at_most:
                raise GzipError(f"gzip of more than {at_most:,} bytes")
        rest = member.unused_data
    return b"".join(parts)


def beginning_of(content: bytes, *, at_most: int) -> bytes:
    """Return the first ``at_most`` bytes of what ``content``, the beginning of a gzip, unpacks to.

    Raises:
        GzipError: it is damaged.
    """
    try:
        return zlib.decompressobj(_GZIP).decompress(content, at_most)
    except zlib.error:
        raise GzipError("damaged gzip") from None
