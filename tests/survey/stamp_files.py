"""Stamps as FITS and NumPy write them."""

import io
from typing import Any

import numpy as np
from astropy.io import fits

HDU = fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU | fits.BinTableHDU


def in_fits(*parts: Any) -> bytes:
    """Return a FITS file of ``parts``: arrays, the first in the primary, or whole HDUs behind an empty primary."""
    file = io.BytesIO()
    hdus = list(parts)
    if isinstance(hdus[0], np.ndarray):
        hdus[0] = fits.PrimaryHDU(hdus[0])
    elif not isinstance(hdus[0], fits.PrimaryHDU):
        hdus.insert(0, fits.PrimaryHDU())
    fits.HDUList([fits.ImageHDU(part) if isinstance(part, np.ndarray) else part for part in hdus]).writeto(file)
    return file.getvalue()


def in_tiles(pixels: Any, compression: str = "RICE_1", **options: Any) -> bytes:
    """Return a FITS file of ``pixels``, compressed in tiles."""
    return in_fits(fits.CompImageHDU(pixels, compression_type=compression, **options))


def in_npy(pixels: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def in_npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
