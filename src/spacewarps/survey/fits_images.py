"""Stamps in FITS: plain, packed by gzip, or compressed in tiles; an image, or a cube of one image a channel."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from spacewarps.survey import gzipped
from spacewarps.survey.fits_blocks import FitsError, check_header, hdus_in
from spacewarps.survey.formats import describe_foreign
from spacewarps.survey.images import MAX_BYTES, StampError, StampShape, check_channels
from spacewarps.survey.pixels import as_pixels, shape_of_axes

# Those whose decoder asks what a file says of itself only after it has made room; astropy has more.
_COMPRESSIONS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")
_GZIPPED = "GZIP_COMPRESSED_DATA"
_PIXELS = "COMPRESSED_DATA"
#: Bytes.
LARGEST_PIXEL = 8
_RICE_BLOCKS = range(1, 65537)
_TOLD = 3


@dataclass(frozen=True)
class FitsReader:
    """Reads FITS.

    Args:
        extension: which, by number (the primary is 0) or name; without it, the only one that holds an image.
    """

    extension: int | str | None = None

    def shape_of(self, content: bytes) -> StampShape:
        """Return what the header says; see :class:`~spacewarps.survey.readers.Reader`."""
        return self._find(_unpacked(content))[1]

    def decode(self, content: bytes, channels: int) -> NDArray[np.generic]:
        """Return the stamp, NaN where it is blank; see :class:`~spacewarps.survey.readers.Reader`."""
        content = _unpacked(content)
        number, shape = self._find(content, to_decode=True)
        check_channels(shape.channels, channels)
        with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True) as file:
            return as_pixels(np.asarray(file[number].data), shape)

    def header_of(self, content: bytes) -> fits.Header:
        """Return the header of the stamp's image."""
        content = _unpacked(content)
        opened = fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True, disable_image_compression=True)
        with opened as file:
            # That of a compressed image has the same cards about the sky.
            header: fits.Header = find_image(file, content, self.extension)[1].header
            return header

    def _find(self, content: bytes, *, to_decode: bool = False) -> tuple[int, StampShape]:
        """Return the number of the extension that is the stamp, and its shape."""
        opened = fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True, disable_image_compression=True)
        with opened as file:
            number, hdu = find_image(file, content, self.extension)
            shape = _shape(hdu.header)
            check_data(hdu, len(content))
            if is_compressed(hdu.header):
                check_compression(hdu.header)
                if shape.channels * shape.height * shape.width * LARGEST_PIXEL > 2 * MAX_BYTES:
                    raise StampError("damaged stamp")
                if to_decode:
                    _check_tiles(hdu, shape)
            return number, shape


def find_image(file: Any, content: bytes, extension: int | str | None) -> tuple[int, Any]:
    """Return the number of the extension with the image that is meant, and the extension.

    Args:
        file: opened by astropy, lazily, with compressed images as the tables that they are.
        content: what it was opened from.
        extension: the number or the name of the one that is meant; without it, the only one with an image.

    Raises:
        StampError: there is none, or there are several.
    """

    def is_meant(number: int, hdu: Any) -> bool:
        if len(axes_of(hdu.header)) < 2:
            return False
        if isinstance(extension, str):
            return str(hdu.name).upper() == extension.upper()
        return extension in (None, number)

    with _faults_of_a_file():
        images = {number: hdu for number, hdu in enumerate(hdus_in(file, content)) if is_meant(number, hdu)}
    if not images:
        what = "an image" if extension is None else f"an image in the extension {extension!r:.80}"
        raise StampError(f"FITS without {what}")
    if len(images) > 1:
        names = ", ".join(f"{number} {hdu.name!r:.20}" for number, hdu in [*images.items()][:_TOLD])
        raise StampError(f"FITS of several images ({names}), of which one would be read; name it by `stamp_extension`")
    ((number, hdu),) = images.items()
    return number, hdu


def _unpacked(content: bytes) -> bytes:
    if content.startswith(gzipped.MAGIC):
        try:
            content = gzipped.gunzip(content, at_most=MAX_BYTES)
        except gzipped.GzipError as error:
            raise StampError(f"stamp in a {error}") from None
    if not content.startswith(b"SIMPLE  ="):
        raise StampError(describe_foreign(content, "FITS"))
    with _faults_of_a_file():
        check_header(content, 0)
    return content


@contextmanager
def _faults_of_a_file() -> Iterator[None]:
    try:
        yield
    except FitsError as error:
        raise StampError(str(error)) from None


def is_compressed(header: fits.Header) -> bool:
    """Say whether a header is that of a table whose cells are tiles of an image."""
    return bool(header.get("ZIMAGE", False))


def axes_of(header: fits.Header) -> tuple[int, ...]:
    """Return the axes of the image that a header describes, as NumPy orders them; none for a table."""
    key = "Z" if is_compressed(header) else ""
    if not key and header.get("XTENSION", "IMAGE").strip() != "IMAGE":
        return ()
    count = header.get(f"{key}NAXIS", 0)
    axes = tuple(int(header[f"{key}NAXIS{axis}"]) for axis in range(count if count < 1000 else 0, 0, -1))
    # Radio images have an axis for the frequency and one for the polarisation, of one plane each.
    while len(axes) > 2 and axes[0] == 1:
        axes = axes[1:]
    return axes if math.prod(axes) else ()


def _shape(header: fits.Header) -> StampShape:
    key = "Z" if is_compressed(header) else ""
    is_plain = (
        header[f"{key}BITPIX"] == 8
        and header.get("BSCALE", 1) == 1
        and header.get("BZERO", 0) == 0
        and not {"BLANK", "ZBLANK"} & set(header)
    )
    return shape_of_axes(axes_of(header), "uint8" if is_plain else "float32")


def check_data(hdu: Any, length: int) -> None:
    """Check that a file of so many bytes is as long as a header claims, before room is made for it.

    Raises:
        StampError: it is not.
    """
    header = hdu.header
    size = math.prod(header[f"NAXIS{axis}"] for axis in range(1, header["NAXIS"] + 1)) * abs(header["BITPIX"]) // 8
    if hdu.fileinfo()["datLoc"] + size + header.get("PCOUNT", 0) > length:
        raise StampError("damaged stamp")


def check_compression(header: fits.Header) -> tuple[int, ...]:
    """Return the axes of a tile of a compressed image, as the header has them, once it can be unpacked safely.

    Raises:
        StampError: it cannot.
    """
    if header.get("ZCMPTYPE") not in _COMPRESSIONS:
        raise StampError(f"FITS in tiles of {str(header.get('ZCMPTYPE'))!r:.20}; compress it by RICE_1 or GZIP_2")
    tiles = [header.get(f"ZTILE{axis}", 1) for axis in range(1, header["ZNAXIS"] + 1)]
    values = {header.get(f"ZNAME{number}"): header.get(f"ZVAL{number}") for number in range(1, 10)}
    if not (
        all(isinstance(tile, int) and 1 <= tile < 2**31 for tile in tiles)
        and values.get("BLOCKSIZE", 32) in _RICE_BLOCKS
        and values.get("BYTEPIX", 4) in (1, 2, 4, LARGEST_PIXEL)
    ):
        raise StampError("damaged stamp")
    return tuple(tiles)


def _check_tiles(hdu: Any, shape: StampShape) -> None:
    """Check that no tile unpacks to more than the image has."""
    most = shape.channels * shape.height * shape.width * LARGEST_PIXEL
    by_gzip = [_GZIPPED] + [_PIXELS] * str(hdu.header["ZCMPTYPE"]).startswith("GZIP")
    for name in set(by_gzip) & set(hdu.columns.names):
        for tile in hdu.data[name]:
            try:
                gzipped.gunzip(np.asarray(tile).tobytes(), at_most=most)
            except gzipped.GzipError:
                raise StampError("damaged stamp") from None
