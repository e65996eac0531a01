"""Which module reads which kind of stamp file, by the suffix of its name."""

from dataclasses import replace
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.fits_images import FitsReader
from spacewarps.survey.images import PictureReader, StampShape
from spacewarps.survey.numpy_images import NumpyReader
from spacewarps.survey.settings import StampSettings


class Reader(Protocol):
    """A module that reads one kind of stamp file.

    Whoever asks it checks sizes, pixel types and pixels; what it raises beside a StampError makes a damaged stamp.
    """

    def shape_of(self, content: bytes, /) -> StampShape:
        """Return the shape and the pixel type of the stamp in ``content``, if possible without decoding it.

        Raises:
            StampError: it is no such file, or one that would lose bits or channels.
        """

    def decode(self, content: bytes, channels: int, /) -> NDArray[np.generic]:
        """Return the stamp in ``content`` as ``[channels, height, width]``, of the pixel type that its shape names.

        A pixel of float32 that nobody measured is NaN.

        Raises:
            StampError: it is damaged, or cannot have as many channels.
        """


#: The reader of each suffix, in small letters; one that has several parts stands beside those that end it.
READERS: dict[str, Reader] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"), PictureReader()),
    **dict.fromkeys((".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".fit.fz", ".fz"), FitsReader()),
    **dict.fromkeys((".npy", ".npz"), NumpyReader()),
}

# What is none of these is a picture, of which Pillow finds the kind.
_MAGIC = ((b"SIMPLE  =", ".fits"), (b"\x1f\x8b", ".fits.gz"), (b"\x93NUMPY", ".npy"), (b"PK\x03\x04", ".npz"))


def split_name(name: str) -> tuple[str, str]:
    """Return the name of a file without its suffix, and the suffix in small letters, the longest that is read.

    >>> split_name("J010.451-009.284.fits.FZ")
    ('J010.451-009.284', '.fits.fz')
    """
    suffixes = PurePath(name).suffixes[-2:]
    for suffix in ("".join(suffixes), *suffixes[-1:]):
        if suffix and suffix.lower() in READERS:
            return name[: -len(suffix)], suffix.lower()
    return PurePath(name).stem, PurePath(name).suffix.lower()


def reader_of_content(content: bytes, how: StampSettings) -> Reader:
    """Return what reads ``content``, the bytes of a stamp file whose name nobody knows."""
    suffix = next((suffix for magic, suffix in _MAGIC if content.startswith(magic)), ".png")
    return reader_of(Path(f"stamp{suffix}"), how)


def reader_of(file: Path, how: StampSettings) -> Reader:
    """Return what reads ``file``, whose suffix is one of :data:`READERS`."""
    reader = READERS[split_name(file.name)[1]]
    if isinstance(reader, FitsReader | NumpyReader | PictureReader):
        return replace(reader, extension=how.stamp_extension)
    return reader
