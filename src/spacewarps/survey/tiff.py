"""Which TIFFs can be read with every bit of every band; Pillow opens others too, and damages them in silence."""

import io
import struct
from collections.abc import Mapping
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from spacewarps.survey.settings import MAX_CHANNELS

_KIND_OF_PAGE, _BITS, _COMPRESSION, _PHOTOMETRIC, _BANDS, _PLANES = 254, 258, 259, 262, 277, 284
_EXTRA_BANDS, _SAMPLE_FORMAT = 338, 339
_SIZE = (256, 257)
_HEADER, _LONG_HEADER = 8, 16
_FORMATS = {1: "uint", 2: "int", 3: "float"}
_UNCOMPRESSED = 1
_WHITE_IS_ZERO, _BANDS_APART = 0, 2
_GREY = (0, 1)
_ALPHA = {(1,), (2,)}
_REDUCED_RESOLUTION = 1
# Each channel and a smaller picture of it; a file of nothing but pages would keep a reader busy for long.
_MOST_PAGES = 2 * MAX_CHANNELS
# Of several pages together: their tags may be the same bytes, which are read again for each.
_MOST_TAGS = 64 * _MOST_PAGES
# Pillow reads the smaller ones as uint8 or uint16 with the same values.
_SMALL = ("uint1", "uint2", "uint4", "uint8", "uint12", "uint16")
# What Pillow unpacks as if the file's order of bytes were still there after libtiff has decompressed it.
_SWAPPED = ("int16", "int32", "float32")
# What Pillow turns round where 0 is white.
_INVERTED = ("uint1", "uint2", "uint4", "uint8")
_SAVE_AS = "save 1 band of uint8, uint16, int16, int32 or float32, or 3 of uint8"


class TiffError(Exception):
    """The pages of a TIFF cannot be gone through; the message is the reason, as the audit counts it."""


def pages_of(image: TiffImageFile, content: bytes) -> list[int]:
    """Return the numbers of the pages of ``image``, from 0, without those that repeat another one smaller.

    Args:
        image: is left at one of its pages.
        content: what it was opened from.

    Raises:
        TiffError: they lead back to one before, or there are absurdly many.
    """
    count = _count_pages(content)
    if count == 1:
        return [0]
    pages = []
    for page in range(count):
        image.seek(page)
        if not int(image.tag_v2.get(_KIND_OF_PAGE, 0)) & _REDUCED_RESOLUTION:
            pages.append(page)
    return pages or [0]


def describe_unopened(content: bytes) -> str:
    """Return why the TIFF ``content``, which Pillow could not open, is no stamp."""
    file = io.BytesIO(content)
    try:
        tags = ImageFileDirectory_v2(content[: _LONG_HEADER if content[2:3] == b"+" else _HEADER])
        file.seek(tags.next)
        tags.load(file)
        reason = describe_loss(tags) if {*_SIZE} <= tags.keys() else None
    except Exception:
        # Damaged tags fail in as many ways as a damaged picture.
        reason = None
    return reason or "damaged stamp"


def describe_loss(tags: ImageFileDirectory_v2) -> str | None:
    """Return why the pixels of a page with ``tags`` would not come out as they are, if so."""
    bands, sample = int(tags.get(_BANDS, 1)), sample_type(tags)
    colours = bands - (tuple(tags.get(_EXTRA_BANDS, ())) in _ALPHA)
    big_endian = tags.prefix == b"MM"
    grey = sample in _SMALL or sample in _SWAPPED or (sample == "uint32" and not big_endian)
    if not (colours == 1 and grey) and not (colours == 3 and sample == "uint8"):
        return f"TIFF of {bands} band{'s' if bands > 1 else ''} of {sample}; {_SAVE_AS}"
    photometric = tags.get(_PHOTOMETRIC)
    if colours == 3 and photometric in _GREY:
        return f"TIFF of {bands} bands that calls itself grey, of which one would be read; save it as RGB"
    if bands > 1 and photometric in _GREY and tags.get(_PLANES) == _BANDS_APART:
        return "TIFF whose bands lie apart (planar), of which one would be read; save them side by side (contiguous)"
    if sample not in _INVERTED and photometric == _WHITE_IS_ZERO:
        return f"TIFF of {sample} in which 0 is white, which would be read as black; save it with 0 as black"
    if sample in _SWAPPED and big_endian and tags.get(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED:
        return f"compressed TIFF of big-endian {sample}, which is read in the wrong byte order; save it uncompressed"
    return None


def sample_type(tags: Mapping[int, Any]) -> str:
    """Return the type of a pixel as NumPy would write it: ``uint8``, ``float32``."""
    formats = set(tags.get(_SAMPLE_FORMAT, (1,)))
    bits = set(tags.get(_BITS, (1,)))
    if len(formats) > 1 or len(bits) > 1 or not formats <= set(_FORMATS):
        return "several or unknown types"
    return f"{_FORMATS[formats.pop()]}{bits.pop()}"


def _count_pages(content: bytes) -> int:
    """Return how many pages there are, each of which names the place of the next one.

    Pillow takes a chain that leads back for one that ends there.
    """
    is_long = content[2:3] == b"+"
    order = ">" if content.startswith(b"MM") else "<"
    count, place, entry = ("Q", "Q", 20) if is_long else ("H", "I", 12)
    (offset,) = struct.unpack_from(order + place, content, 8 if is_long else 4)
    seen, tags = [offset], 0
    # What is cut off is no page, and Pillow says what it is.
    while offset + struct.calcsize(count) <= len(content):
        (found,) = struct.unpack_from(order + count, content, offset)
        tags += found
        if len(seen) > 1 and tags > _MOST_TAGS:
            raise TiffError(f"TIFF whose pages have more than {_MOST_TAGS} tags")
        after = offset + struct.calcsize(count) + found * entry
        if after + struct.calcsize(place) > len(content):
            break
        (offset,) = struct.unpack_from(order + place, content, after)
        if not offset:
            break
        if offset in seen:
            raise TiffError(f"TIFF whose page {len(seen) - 1} leads back to page {seen.index(offset)}; save it again")
        seen.append(offset)
        if len(seen) > _MOST_PAGES:
            raise TiffError(f"TIFF of more than {_MOST_PAGES} pages")
    return len(seen)
