import gzip
import io
import resource
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from spacewarps.survey.fits_images import FitsReader
from spacewarps.survey.images import StampError, StampShape
from tests.complaints import complaint
from tests.survey.stamp_files import in_fits, in_npy, in_tiles

CUBE = np.random.default_rng(1).normal(0, 1e-4, (5, 16, 18)).astype(np.float32)
COUNTS = np.arange(16 * 18, dtype=np.int16).reshape(16, 18)
READER = FitsReader()


@pytest.mark.parametrize(
    "content",
    [
        in_fits(CUBE),
        gzip.compress(in_fits(CUBE)),
        in_fits(fits.ImageHDU(CUBE)),
        in_tiles(CUBE, "GZIP_2", quantize_level=0),
        gzip.compress(in_tiles(CUBE, "GZIP_1", quantize_level=0)),
    ],
    ids=["primary", "gzip", "extension", "tiles of GZIP_2", "tiles of GZIP_1 in gzip"],
)
def test_float32_is_kept_to_the_bit_however_it_is_packed(content: bytes) -> None:
    assert READER.shape_of(content) == StampShape(5, 16, 18, "float32")
    stamp = READER.decode(content, 5)
    assert stamp.dtype == np.dtype("float32")
    assert stamp.dtype.isnative
    assert (stamp == CUBE).all()


def test_tiles_of_rice_are_read_as_astropy_reads_them() -> None:
    content = in_tiles(CUBE)
    with fits.open(io.BytesIO(content)) as file:
        assert (READER.decode(content, 5) == file[1].data).all()


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        (COUNTS, "float32"),
        (COUNTS.astype(np.uint16) + 60_000, "float32"),
        (COUNTS.astype(np.uint8), "uint8"),
        (COUNTS.astype(np.int64), "float32"),
        (COUNTS.astype(np.float64) / 3, "float32"),
    ],
    ids=["int16", "uint16", "uint8", "int64", "float64"],
)
def test_counts_of_8_bits_stay_and_all_else_becomes_float32(numbers: Any, dtype: str) -> None:
    content = in_fits(numbers)
    assert READER.shape_of(content) == StampShape(1, 16, 18, dtype)
    assert (READER.decode(content, 1)[0] == numbers.astype(dtype)).all()


def test_blank_integers_and_nan_are_masked() -> None:
    blank = fits.PrimaryHDU(COUNTS)
    blank.header["BLANK"] = 7
    with_nan = CUBE[0].copy()
    with_nan[3, 4] = np.nan
    for content, where in ((in_fits(blank), (0, 7)), (in_fits(with_nan), (3, 4)), (in_tiles(with_nan), (3, 4))):
        stamp = READER.decode(content, 1)[0]
        assert np.argwhere(~np.isfinite(stamp)).tolist() == [list(where)]


def test_axes_of_one_plane_are_dropped() -> None:
    assert READER.shape_of(in_fits(CUBE[None, :1])) == StampShape(1, 16, 18, "float32")


def test_the_extension_is_found_if_it_is_the_only_image_and_else_named() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.arange(3))])
    assert READER.shape_of(in_fits(table, fits.ImageHDU(CUBE))).channels == 5
    planes = [fits.ImageHDU(CUBE[:number], name=name) for number, name in ((1, "SCI"), (2, "MASK"), (3, "VAR"))]
    content = in_fits(*planes)
    assert complaint(StampError, READER.shape_of, content) == (
        "FITS of several images (1 'SCI', 2 'MASK', 3 'VAR'), of which one would be read; name it by `stamp_extension`"
    )
    assert [FitsReader(one).shape_of(content).channels for one in (1, "sci", 3, "MASK")] == [1, 1, 3, 2]
    assert FitsReader("MASK").decode(content, 2).shape == (2, 16, 18)
    assert complaint(StampError, FitsReader("X").shape_of, content) == "FITS without an image in the extension 'X'"
    assert complaint(StampError, READER.shape_of, in_fits(table)) == "FITS without an image"


def with_cards(content: bytes, **cards: int) -> bytes:
    """Return a file whose header claims something else."""
    for name, value in cards.items():
        start = content.index(f"{name:<8}=".encode())
        content = content[:start] + f"{name:<8}= {value:>20}".encode().ljust(80) + content[start + 80 :]
    return content


BOMB = gzip.compress(bytes(2**28))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_cards(in_fits(CUBE), NAXIS1=100_000, NAXIS2=100_000), "stamp of absurd size"),
        (with_cards(in_fits(CUBE), NAXIS1=2000, NAXIS2=2000), "damaged stamp"),
        (with_cards(in_fits(CUBE), NAXIS3=10**9), "stamp of more than 64 channels"),
        (with_cards(in_fits(CUBE), NAXIS1=-18), "damaged stamp"),
        (with_cards(in_tiles(CUBE), ZNAXIS1=100_000, ZNAXIS2=100_000), "stamp of absurd size"),
        (with_cards(in_tiles(CUBE), ZTILE1=0), "damaged stamp"),
        (with_cards(in_tiles(CUBE), ZVAL1=0), "damaged stamp"),
        (with_cards(in_tiles(CUBE), PCOUNT=10**12), "damaged stamp"),
        (with_cards(in_fits(CUBE), NAXIS=999), "damaged stamp"),
        (in_fits(CUBE)[:-2880], "damaged stamp"),
        (in_fits(CUBE)[:1000], "FITS that was cut off"),
        (in_fits(CUBE)[:2880].replace(b"END", b"ONE") + b" " * 2880 * 400, "FITS with a header without end"),
        (in_fits(*[CUBE[0, :1, :1]] * 120), "FITS of more than 100 extensions"),
        (in_tiles(COUNTS, "HCOMPRESS_1"), "FITS in tiles of 'HCOMPRESS_1'; compress it by RICE_1 or GZIP_2"),
        (gzip.compress(in_fits(CUBE))[:-900], "stamp in a gzip that was cut off"),
        (BOMB, "stamp in a gzip of more than 68,157,440 bytes"),
        (b"\x1f\x8b\x08\0", "stamp in a gzip that was cut off"),
        (in_npy(CUBE), "stamp in the format NumPy; name it .npy"),
        (b"\x89PNG\r\n\x1a\n", "stamp in the format PNG under a suffix of FITS; give it its own"),
        (b"an error page", "stamp that is a text file"),
    ],
    ids=range(20),
)
def test_a_file_that_claims_too_much_or_is_none_is_refused_before_it_is_read(content: bytes, reason: str) -> None:
    try:
        told = complaint(StampError, READER.shape_of, content)
    except Exception as error:
        # What else a reader raises makes a damaged stamp.
        told = "damaged stamp" if not isinstance(error, AssertionError) else str(error)
    assert told == reason


def test_a_tile_that_unpacks_to_gigabytes_is_refused() -> None:
    zeros = np.zeros((2000, 2000), np.float32)
    content = in_tiles(zeros, "GZIP_1", quantize_level=0, tile_shape=(2000, 2000))
    small = with_cards(content, ZNAXIS1=20, ZNAXIS2=20, ZTILE1=20, ZTILE2=20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert READER.shape_of(small) == StampShape(1, 20, 20, "float32")
    assert complaint(StampError, READER.decode, small, 1) == "damaged stamp"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**13


def test_channels_are_not_made_up() -> None:
    assert complaint(StampError, READER.decode, in_fits(CUBE[0]), 5) == "stamp of 1 channels, where 5 are wanted"
    big = in_fits(np.full((4, 4), 1e300))
    assert complaint(StampError, READER.decode, big, 1).startswith("stamp with pixels beyond 1e+15")
    assert complaint(StampError, READER.decode, in_fits(COUNTS.astype(np.int64) * 2**40), 1).startswith(
        "stamp with int"
    )
