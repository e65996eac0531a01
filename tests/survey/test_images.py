import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spacewarps.survey.images import StampError, StampShape, check_range
from tests.survey.pictures import decode, encoded, shape_of, why_refused

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
REPEATED = np.dstack([GREY, GREY, GREY])
EIGHT_COLOURS = Image.fromarray(COLOUR).quantize(8)


def png(pixels: np.ndarray[Any, Any], depth: int | None = None) -> bytes:
    """Write ``[height, width]`` or ``[height, width, channels]`` of uint8 or uint16, or bits of ``depth``, as PNG."""
    planes = np.atleast_3d(pixels)
    height, width, channels = planes.shape
    if depth is None:
        depth, stored = 8 * planes.itemsize, planes.astype(planes.dtype.newbyteorder(">"))
        rows = [row.tobytes() for row in stored]
    else:
        bits = np.unpackbits(planes, axis=2).reshape(height, width, 8)[..., -depth:]
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "pixels", "dtype"),
    [
        (encoded(Image.fromarray(GREY)), GREY, "uint8"),
        (encoded(Image.fromarray(COLOUR)), COLOUR, "uint8"),
        (encoded(Image.fromarray(GREY), "BMP"), GREY, "uint8"),
        (encoded(Image.fromarray(COLOUR), "BMP"), COLOUR, "uint8"),
        (encoded(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw"), COLOUR, "uint8"),
        (encoded(Image.fromarray(GREY > 99)), (GREY > 99) * 255, "uint8"),
        (png(GREY % 4, depth=2), GREY % 4 * 85, "uint8"),
        (png(GREY % 16, depth=4), GREY % 16 * 17, "uint8"),
        (png(GREY.astype(np.uint16) * 257 - 1), GREY.astype(np.uint16) * 257 - 1, "float32"),
        (encoded(Image.fromarray(GREY.astype(np.float32) / -7), "TIFF"), GREY.astype(np.float32) / -7, "float32"),
        (encoded(Image.fromarray(GREY.astype(np.int32) - 99), "TIFF"), GREY.astype(np.int32) - 99, "float32"),
        # Alpha that is opaque everywhere says nothing.
        (png(np.dstack([GREY, np.full_like(GREY, 255)])), GREY, "uint8"),
        (png(np.dstack([COLOUR, np.full_like(GREY, 255)])), COLOUR, "uint8"),
        # Transparency of one value can be told from the value, which stays.
        (encoded(Image.fromarray(GREY), transparency=int(GREY[0, 0])), GREY, "uint8"),
        (encoded(Image.fromarray(GREY).convert("P")), GREY, "uint8"),
        (
            encoded(Image.fromarray(COLOUR).quantize(8)),
            np.asarray(Image.fromarray(COLOUR).quantize(8).convert("RGB")),
            "uint8",
        ),
    ],
)
def test_every_bit_of_every_channel_comes_back(content: bytes, pixels: np.ndarray[Any, Any], dtype: str) -> None:
    expected = np.atleast_3d(pixels).transpose(2, 0, 1)
    assert shape_of(content) == StampShape(len(expected), 4, 6, dtype)
    decoded = decode(content, len(expected))
    assert decoded.dtype == dtype
    assert (decoded == expected).all()


@pytest.mark.parametrize(
    ("channels", "found"), [(2, "grey with alpha"), (3, "RGB"), (4, "RGB with alpha")], ids=["LA", "RGB", "RGBA"]
)
def test_a_png_of_which_pillow_gives_half_of_the_bits_is_refused(channels: int, found: str) -> None:
    assert why_refused(png(RNG.integers(0, 65536, (4, 6, channels), dtype=np.uint16))) == (
        f"PNG of 16-bit {found}, of which only 8 bits can be read; save RGB of 8 bits, or one channel of 16"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
            "stamp in CMYK, which has no exact RGB; save it as RGB",
        ),
        (
            encoded(Image.fromarray(COLOUR).convert("YCbCr"), "TIFF"),
            "stamp in the colour mode YCbCr; save it as grey or RGB",
        ),
        *[
            (
                encoded(
                    Image.fromarray(GREY), image_format, save_all=True, append_images=[Image.fromarray(GREY[::-1])]
                ),
                "stamp of several pictures, of which one would be read; save one picture a file",
            )
            for image_format in ("PNG", "MPO")
        ],
    ],
    ids=["CMYK", "YCbCr", "APNG", "MPO"],
)
def test_what_cannot_be_read_without_loss_is_refused_before_it_is_decoded(content: bytes, reason: str) -> None:
    assert why_refused(content) == reason


@pytest.mark.parametrize(
    "content",
    [
        png(np.dstack([GREY, 255 - (GREY[0, 0] == GREY)]).astype(np.uint8)),
        png(np.dstack([COLOUR, 255 - (GREY[0, 0] == GREY)]).astype(np.uint8)),
        encoded(Image.fromarray(np.dstack([COLOUR, GREY])), "TIFF"),
        encoded(Image.fromarray(GREY).convert("P"), transparency=bytes(range(256))),
        encoded(Image.fromarray(GREY).convert("P"), transparency=int(GREY[0, 0])),
    ],
    ids=["LA", "RGBA", "RGBA TIFF", "palette", "colour of a palette"],
)
def test_transparency_that_the_pixels_do_not_say_is_not_lost(content: bytes) -> None:
    with pytest.raises(StampError, match=r"^stamp with transparent pixels, which would be lost; save it without"):
        decode(content, 3)


def test_grey_becomes_colour_and_back_where_nothing_is_lost() -> None:
    grey, repeated = encoded(Image.fromarray(GREY)), encoded(Image.fromarray(REPEATED))
    assert (decode(grey, 3) == REPEATED.transpose(2, 0, 1)).all()
    assert shape_of(repeated).channels == 3
    assert (decode(repeated, 1) == GREY).all()
    for nearly in (np.dstack([GREY, GREY, GREY ^ (GREY.max() == GREY)]), COLOUR):
        with pytest.raises(StampError, match=r"^colour stamp among grey ones$"):
            decode(encoded(Image.fromarray(nearly)), 1)


@pytest.mark.parametrize("colour", [False, True])
def test_webp_is_read_and_is_grey_where_all_of_it_is(colour: bool) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    if not colour:
        picture[:] = picture[..., :1]
    content = encoded(Image.fromarray(picture), "WEBP", lossless=True)
    assert shape_of(content) == StampShape(3 if colour else 1, 4, 6, "uint8")
    assert (decode(content, 3) == picture.transpose(2, 0, 1)).all()
    moving = encoded(Image.fromarray(picture), "WEBP", save_all=True, append_images=[Image.fromarray(picture + 1)])
    assert why_refused(moving).startswith("stamp of several pictures, of which one would be read")


@pytest.mark.parametrize("value", [1e30, -1.1e15])
def test_pixels_that_overflow_in_a_network_are_refused(value: float) -> None:
    pixels = np.array([[0, 1e15], [-1e15, 3]], dtype=np.float32)
    assert (decode(encoded(Image.fromarray(pixels), "TIFF"), 1) == pixels).all()
    pixels[0, 0] = value
    with pytest.raises(StampError, match=r"^stamp with pixels beyond 1e\+15, which overflow when squared; give them"):
        check_range(decode(encoded(Image.fromarray(pixels), "TIFF"), 1))


def test_the_pixels_orient_a_jpeg_and_the_tag_orients_a_tiff() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth = Image.fromarray(np.add.outer(np.arange(16), 2 * np.arange(24)).astype(np.uint8))
    plain, tagged = (encoded(smooth, "JPEG", **options) for options in ({}, {"exif": turned}))
    assert shape_of(tagged) == StampShape(1, 16, 24, "uint8")
    assert (decode(tagged, 1) == decode(plain, 1)).all()
    tagged = encoded(Image.fromarray(GREY), "TIFF", tiffinfo={0x0112: 6})
    assert shape_of(tagged) == StampShape(1, 6, 4, "uint8")
    assert (decode(tagged, 1) == np.rot90(GREY, -1)).all()
