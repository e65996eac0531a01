"""Which module reads which kind of stamp file, by the suffix of its name."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey import images
from spacewarps.survey.images import StampShape


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

        Raises:
            StampError: it is damaged, or cannot have as many channels.
        """


#: The reader of each suffix, in small letters.
READERS: dict[str, Reader] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"), images),
}


def reader_of(file: Path) -> Reader:
    """Return what reads ``file``, whose suffix is one of :data:`READERS`."""
    return READERS[file.suffix.lower()]
