import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spacewarps.survey.images import StampError, StampShape, decode, shape_of
from tests.survey.pictures import why_refused

RNG = np.random.default_rng(0)
SAVE_AS = "; save 1 band of uint8, uint16, int16, int32 or float32, or 3 of uint8"


def tiff(
    pixels: np.ndarray[Any, Any], *, order: str = "<", deflate: bool = False, planar: bool = False, **tags: list[int]
) -> bytes:
    """Write ``[height, width]`` or ``[height, width, bands]`` of any type as a TIFF of one strip, or one a band."""
    pixels = np.atleast_3d(pixels)
    height, width, bands = pixels.shape
    stored = pixels.astype(pixels.dtype.newbyteorder(order))  # type: ignore[arg-type]
    strips = [stored[..., band].tobytes() for band in range(bands)] if planar else [stored.tobytes()]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    body = bytearray(8)
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
    } | {int(tag.removeprefix("tag")): value for tag, value in tags.items()}
    entries = b""
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(packed) > 4:
            packed, place = struct.pack(f"{order}I", len(body)), packed
            body += place
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    body[:8] = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", len(body))
    return bytes(body + struct.pack(f"{order}H", len(values)) + entries + bytes(4))


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


def test_one_page_is_a_stamp_and_several_are_not() -> None:
    picture, other = Image.fromarray(pixels_of("uint8")[..., 0]), Image.new("L", (3, 4))
    thumbnail = Image.new("L", (2, 2))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    assert (decode(pages(picture), 1) == np.asarray(picture)).all()
    assert shape_of(pages(picture, thumbnail)) == StampShape(1, 4, 3, "uint8")
    assert (decode(pages(picture, thumbnail, thumbnail), 1) == np.asarray(picture)).all()
    for content in (pages(picture, other), pages(picture, thumbnail, other), pages(picture, *[thumbnail] * 20)):
        assert why_refused(content) == "TIFF of several pages, of which one would be read; save one picture a file"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("cut", [6, 20, 40, 80, -100])
def test_a_cut_tiff_is_damaged(cut: int) -> None:
    with pytest.raises(StampError, match=r"^damaged stamp$"):
        decode(tiff(pixels_of("uint8"))[:cut], 1)
