"""Stamps around the positions of their sources, by the world coordinates (WCS) of their own files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spacewarps.survey.fits_images import FitsReader
from spacewarps.survey.images import StampError, StampShape, read_stamp
from spacewarps.survey.large_images import Pixel, nearest_pixel
from spacewarps.survey.readers import reader_of
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamps import Decoded, Files, Inspected, decode_files, faults_of_a_reader, fitted, inspect_files
from spacewarps.survey.world_coordinates import WorldCoordinates, WorldError


@dataclass(slots=True)
class CentredStamp:
    """A stamp around a position; see :class:`~spacewarps.survey.stamps.Place`.

    Args:
        files: the stamp's file, or one for each band.
        ra: degrees (ICRS).
        dec: degrees.
        centre: the pixel that the position lies in; asked of the files when they are first looked at, as that takes
            longer than to decode them.
    """

    files: Files
    ra: float
    dec: float
    centre: Pixel | None = None

    @property
    def file(self) -> Path:
        """The first file."""
        return self.files[0]

    @property
    def order(self) -> tuple[Any, ...]:
        """None: each has files of its own."""
        return ()

    def inspect(self, how: StampSettings) -> Inspected:
        """Return the shape and the digest of the files, and what of the stamp will lie beyond their edge."""
        found = inspect_files(self.files, how)
        height, width = found.shape.height, found.shape.width
        self.centre = row, column = self._centre(found.shape, how)
        size = how.stamp_size
        assert size is not None
        inside = 1
        for centre, length in ((row, height), (column, width)):
            inside *= min(length, centre - size // 2 + size) - max(0, centre - size // 2)
        return replace(found, beyond=size**2 - inside, moved=max(abs(row - height // 2), abs(column - width // 2)))

    def decode(self, shape: StampShape, how: StampSettings) -> Decoded:
        """Return the stamp, with each channel's median beyond the edge of its file."""
        stamp = decode_files(self.files, shape, how)
        whole = replace(shape, height=stamp.shape[1], width=stamp.shape[2])
        return fitted(stamp, shape, how, self.centre or self._centre(whole, how))

    def _centre(self, shape: StampShape, how: StampSettings) -> Pixel:
        """Return the pixel that the position lies in."""
        centres = {self._centre_in(file, shape, how) for file in self.files}
        if len(centres) > 1:
            raise StampError("stamp whose bands have the source at different pixels")
        return centres.pop()

    def _centre_in(self, file: Path, shape: StampShape, how: StampSettings) -> Pixel:
        reader = reader_of(file, how)
        if not isinstance(reader, FitsReader):
            raise StampError("stamp without a WCS, as only FITS has; set `stamp_centre` to middle")
        content = read_stamp(file)
        try:
            with faults_of_a_reader():
                header = reader.header_of(content)
            world = WorldCoordinates(header, shape.height, shape.width)
            pixels = world.pixels_of(np.array([self.ra]), np.array([self.dec]))
        except WorldError as error:
            # What is in brackets is of this file alone.
            raise StampError(f"stamp with {error}".partition(" (")[0]) from None
        if not world.margins(pixels)[0] > 0:
            raise StampError("source outside of its own stamp")
        return nearest_pixel(pixels[0])
