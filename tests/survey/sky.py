"""Large images of the sky, of which every pixel is known."""

import io
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

SCALE = 1e-4


def world(side: int, ra: float = 10.0, dec: float = 20.0, **cards: Any) -> fits.Header:
    """Return the header of an image of ``side`` pixels around a position."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [ra, dec], [side / 2 + 0.5, side / 2 + 0.5], [-SCALE, SCALE]
    header = wcs.to_header()
    header.update(cards)
    return header


def gradient(side: int) -> np.ndarray[Any, Any]:
    """Return an image in which each pixel says where it is: its row times 1000 and its column, exact in float32."""
    rows, columns = np.mgrid[:side, :side]
    return np.asarray(rows * 1000.0 + columns, dtype=np.float32)


def position_of(header: fits.Header, row: float, column: float) -> tuple[float, float]:
    """Return right ascension and declination of a place on an image, counted from the centre of its first pixel."""
    ra, dec = WCS(header).all_pix2world(column, row, 0)
    return float(ra), float(dec)


def image(pixels: Any, header: fits.Header, **tiles: Any) -> bytes:
    """Return a FITS file of an image, in tiles if there are options for these."""
    file = io.BytesIO()
    parts: list[Any] = [fits.PrimaryHDU(pixels, header)]
    if tiles:
        parts = [fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, **tiles)]
    fits.HDUList(parts).writeto(file)
    return file.getvalue()
