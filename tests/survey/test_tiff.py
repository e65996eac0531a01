import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spacewarps.survey.images import PictureReader, StampError, StampShape
from tests.survey.pictures import decode, shape_of, why_refused

RNG = np.random.default_rng(0)
SAVE_AS = "; save 1 band of uint8, uint16, int16, int32 or float32, or 3 of uint8"


def tiff(
    *pictures: np.ndarray[Any, Any],
    order: str = "<",
    deflate: bool = False,
    planar: bool = False,
    leads_to: int | None = None,
    tags: dict[int, list[int]] | None = None,
    **more_tags: list[int],
) -> bytes:
    """Write pages of ``[height, width]`` or ``[height, width, bands]``, of any type, as a TIFF.

    A page has one strip, or one a band; the last one leads to the page ``leads_to``, or to none.
    """
    tags = (tags or {}) | {int(tag.removeprefix("tag")): value for tag, value in more_tags.items()}
    body = bytearray(b"II*\0" if order == "<" else b"MM\0*") + bytearray(4)
    ends, starts = [4], []
    for pixels in pictures:
        entries = _entries(body, np.atleast_3d(pixels), order, deflate, planar, tags)
        starts.append(len(body))
        body += struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
        ends.append(len(body) - 4)
    starts.append(0 if leads_to is None else starts[leads_to])
    for end, start in zip(ends, starts, strict=True):
        body[end : end + 4] = struct.pack(f"{order}I", start)
    return bytes(body)


def _entries(
    body: bytearray, pixels: np.ndarray[Any, Any], order: str, deflate: bool, planar: bool, tags: dict[int, list[int]]
) -> list[bytes]:
    height, width, bands = pixels.shape
    stored = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [stored[..., band].tobytes() for band in range(bands)] if planar else [stored.tobytes()]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    offsets = []
    for strip in strips:
        offsets.append(len(body))
        body += strip + b"\0" * (len(strip) % 2)
    sample_format = {"u": 1, "i": 2, "f": 3, "c": 6}[pixels.dtype.kind]
    values = {
        256: [width],
        257: [height],
        258: [8 * pixels.dtype.itemsize] * bands,
        259: [8 if deflate else 1],
        262: [2 if bands >= 3 else 1],
        273: offsets,
        277: [bands],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
        339: [sample_format] * bands,
    } | tags
    entries = []
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(packed) > 4:
            packed, place = struct.pack(f"{order}I", len(body)), packed
            body += place
        entries.append(struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed)
    return entries


def pages(*pictures: Image.Image) -> bytes:
    file = io.BytesIO()
    pictures[0].save(file, "TIFF", save_all=True, append_images=pictures[1:])
    return file.getvalue()


def pixels_of(kind: str, bands: int = 1) -> np.ndarray[Any, Any]:
    dtype, shape = np.dtype(kind), (4, 3, bands)
    if dtype.kind in "fc":
        return RNG.normal(size=shape).astype(dtype)
    return RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize(
    ("kind", "order", "deflate", "planar", "bands"),
    [
        *itertools.product(["uint8", "uint16"], "<>", [False, True], [False], [1]),
        *[(kind, order, False, False, 1) for kind in ("int16", "float32") for order in "<>"],
        *[(kind, "<", True, False, 1) for kind in ("int16", "float32")],
        *itertools.product(["uint8"], "<>", [False, True], [False, True], [3]),
    ],
)
def test_every_bit_of_every_band_comes_back(kind: str, order: str, deflate: bool, planar: bool, bands: int) -> None:
    pixels = pixels_of(kind, bands)
    content = tiff(pixels, order=order, deflate=deflate, planar=planar)
    assert shape_of(content) == StampShape(bands, 4, 3, "uint8" if kind == "uint8" else "float32")
    assert (decode(content, bands) == pixels.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(("kind", "order"), [("int32", "<"), ("int32", ">"), ("uint32", "<")])
def test_long_integers_come_back_or_are_refused(kind: str, order: str) -> None:
    largest, lowest = 2**24, -(2**24) if kind == "int32" else 0
    assert decode(tiff(np.array([[lowest, largest]], kind), order=order), 1).tolist() == [[[lowest, largest]]]
    beyond = np.iinfo(kind).max, -(2**31) if kind == "int32" else 2**31, largest + 1
    for value in beyond:
        content = tiff(np.array([[0, value]], dtype=kind), order=order)
        with pytest.raises(StampError, match=r"integer pixels beyond 16777216, which float32 may not hold"):
            decode(content, 1)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (tiff(pixels_of("float64")), "1 band of float64"),
        (tiff(pixels_of("float32", 3)), "3 bands of float32"),
        (tiff(pixels_of("uint16", 3)), "3 bands of uint16"),
        (tiff(pixels_of("uint16", 4)), "4 bands of uint16"),
        (tiff(pixels_of("int8")), "1 band of int8"),
        (tiff(pixels_of("uint32"), order=">"), "1 band of uint32"),
        (tiff(pixels_of("complex64")), "1 band of several or unknown types"),
        (tiff(pixels_of("uint8", 5)), "5 bands of uint8"),
        # Bands that Pillow drops in silence: beside grey, beside RGB, and in planes of their own.
        (tiff(pixels_of("uint8", 2), tag338=[0]), "2 bands of uint8"),
        (tiff(pixels_of("uint8", 4), tag338=[0]), "4 bands of uint8"),
        (tiff(pixels_of("uint8", 5), planar=True, tag338=[0, 0]), "5 bands of uint8"),
        # A fourth band of which nothing is said is taken for alpha.
        (tiff(pixels_of("uint8", 4)), "4 bands of uint8"),
    ],
)
def test_what_would_lose_bits_or_bands_is_refused_with_what_it_is(content: bytes, found: str) -> None:
    assert why_refused(content) == f"TIFF of {found}{SAVE_AS}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(pixels_of("uint8", 3), planar=True, deflate=True, tag262=[1]), "TIFF of 3 bands that calls itself grey"),
        (tiff(pixels_of("uint8", 3), tag262=[1]), "TIFF of 3 bands that calls itself grey"),
        (tiff(pixels_of("uint8", 2), planar=True, deflate=True, tag338=[1]), "TIFF whose bands lie apart (planar)"),
        (tiff(pixels_of("uint16", 1), tag262=[0]), "TIFF of uint16 in which 0 is white"),
        (tiff(pixels_of("float32", 1), tag262=[0]), "TIFF of float32 in which 0 is white"),
    ],
)
def test_what_is_not_what_its_colours_say_is_refused(content: bytes, reason: str) -> None:
    assert why_refused(content).startswith(reason)


def test_a_picture_in_which_0_is_white_is_turned_round() -> None:
    pixels = pixels_of("uint8", 1)
    assert (decode(tiff(pixels, tag262=[0]), 1)[0] == 255 - pixels[..., 0]).all()


@pytest.mark.parametrize("kind", ["int16", "int32", "float32"])
def test_compressed_big_endian_numbers_which_would_come_out_swapped_are_refused(kind: str) -> None:
    content = tiff(pixels_of(kind), order=">", deflate=True)
    assert why_refused(content) == (
        f"compressed TIFF of big-endian {kind}, which is read in the wrong byte order; save it uncompressed"
    )


@pytest.mark.parametrize(
    ("kind", "order", "deflate"),
    [
        *itertools.product(["uint8", "uint16"], "<>", [False, True]),
        *itertools.product(["int16", "float32"], "<>", [False]),
        *itertools.product(["int16", "float32"], "<", [True]),
    ],
)
def test_pages_are_the_channels_of_a_stamp_with_every_bit(kind: str, order: str, deflate: bool) -> None:
    pictures = [pixels_of(kind) for _ in range(5)]
    content = tiff(*pictures, order=order, deflate=deflate)
    assert shape_of(content) == StampShape(5, 4, 3, "uint8" if kind == "uint8" else "float32")
    assert (decode(content, 5) == [picture[..., 0] for picture in pictures]).all()
    with pytest.raises(StampError, match=r"^stamp of 5 channels, where 1 are wanted$"):
        decode(content, 1)


def test_pages_keep_what_nobody_measured_and_each_is_turned_by_its_tag() -> None:
    pictures = [pixels_of("float32")[..., 0] for _ in range(3)]
    pictures[1][0, 2] = np.nan
    assert np.array_equal(decode(tiff(*pictures), 3), pictures, equal_nan=True)
    turned = tiff(*pictures, tag274=[6])
    assert shape_of(turned) == StampShape(3, 3, 4, "float32")
    assert np.array_equal(decode(turned, 3), [np.rot90(page, -1) for page in pictures], equal_nan=True)


def test_a_page_that_repeats_another_one_smaller_is_none() -> None:
    picture, other = Image.fromarray(pixels_of("uint8")[..., 0]), Image.fromarray(pixels_of("uint8")[..., 0])
    thumbnail = Image.new("L", (2, 2))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    assert (decode(pages(picture), 1) == np.asarray(picture)).all()
    assert shape_of(pages(picture, thumbnail)) == StampShape(1, 4, 3, "uint8")
    assert (decode(pages(picture, *[thumbnail] * 20), 3) == np.asarray(picture)).all()
    assert (decode(pages(thumbnail, picture), 1) == np.asarray(picture)).all()
    both = pages(picture, thumbnail, other, thumbnail)
    assert shape_of(both) == StampShape(2, 4, 3, "uint8")
    assert (decode(both, 2) == [np.asarray(picture), np.asarray(other)]).all()
    assert (PictureReader(2).decode(both, 1) == np.asarray(other)).all()


def test_one_page_is_chosen_by_its_number() -> None:
    grey, colour, pixels = pixels_of("uint16"), pixels_of("uint8", 3), pixels_of("float32")
    content = tiff(grey, colour, pixels)
    assert (PictureReader(0).decode(content, 1) == grey[..., 0]).all()
    assert PictureReader(1).shape_of(content) == StampShape(3, 4, 3, "uint8")
    assert (PictureReader(1).decode(content, 3) == colour.transpose(2, 0, 1)).all()
    assert (PictureReader(2).decode(content, 1) == pixels[..., 0]).all()
    for wrong in (3, "SCI"):
        with pytest.raises(StampError, match=f"^TIFF without the page {wrong!r}; its pages are numbered, from 0$"):
            PictureReader(wrong).shape_of(content)
    # What is the number of an image in other files is none of a file with one page.
    assert (PictureReader(1).decode(tiff(grey), 1) == grey[..., 0]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            tiff(pixels_of("uint8"), pixels_of("uint8")[1:]),
            "TIFF of pages that differ (3 x 4 pixels of uint8, and 3 x 3 pixels of uint8), where each is a channel",
        ),
        (
            tiff(pixels_of("uint8"), pixels_of("float32")),
            "TIFF of pages that differ (3 x 4 pixels of uint8, and 3 x 4 pixels of float32), where each is a channel",
        ),
        (tiff(*[pixels_of("uint8", 3)] * 2), "TIFF of 2 pages in colour, where each is a channel"),
        (tiff(*[pixels_of("float64")] * 2), "TIFF of 1 band of float64"),
        (tiff(pixels_of("uint8"), pixels_of("uint16", 3)), "TIFF of 3 bands of uint16"),
        (tiff(*[pixels_of("uint8")] * 65), "stamp of more than 64 channels"),
        (tiff(*[pixels_of("uint8")] * 129), "TIFF of more than 128 pages"),
        (tiff(pixels_of("uint8"), leads_to=0), "TIFF whose page 0 leads back to page 0"),
        (tiff(*[pixels_of("uint8")] * 3, leads_to=1), "TIFF whose page 2 leads back to page 1"),
        (
            # More than a stamp may take in memory, of which the file holds nothing.
            tiff(*[np.zeros((1, 1), "float32")] * 5, deflate=True, tag256=[2048], tag257=[2048], tag278=[2048]),
            "stamp of absurd size",
        ),
        (
            tiff(*[pixels_of("uint8")] * 3, tags={unknown: [0] for unknown in range(1_000, 4_000)}),
            "TIFF whose pages have more than 8192 tags",
        ),
        (tiff(pixels_of("uint8"), np.zeros((1, 2049), "uint8")), "stamp of absurd size"),
    ],
)
def test_pages_that_are_no_channels_are_refused_with_what_was_found(content: bytes, reason: str) -> None:
    assert why_refused(content).startswith(reason)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("cut", [6, 20, 40, 80, -100])
def test_a_cut_tiff_is_damaged(cut: int) -> None:
    with pytest.raises(StampError, match=r"^damaged stamp$"):
        decode(tiff(pixels_of("uint8"))[:cut], 1)
