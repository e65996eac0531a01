"""What astronomers measure on a stamp: the brightness and the shape of what is at its centre."""

import warnings
from collections.abc import Callable

import numpy as np
from astropy.stats import mad_std
from numpy.typing import NDArray
from photutils.morphology import data_properties, gini
from photutils.profiles import CurveOfGrowth

from spacewarps.survey.samples import Samples
from spacewarps.survey.sky import rim

#: Measured on the mean of the channels of a stamp.
MEASURES = (
    "background",
    "noise",
    "peak",
    "flux",
    "semimajor_sigma",
    "ellipticity",
    "concentration",
    "gini",
    "asymmetry",
)
#: Measured on each channel of stamps that have several.
MEASURES_OF_A_CHANNEL = ("peak", "flux")
# Bits of a measurement's fraction that are kept; the last ones depend on the processor, and a threshold may meet them.
_BITS = 17
# Standard deviations above the background from which on a pixel belongs to a source.
_SIGMAS = 2.0


def measure(samples: Samples, progress: Callable[[int], None] = lambda _: None) -> NDArray[np.float64]:
    """Return the measurements of each sample, ``[N, columns]``; NaN where one is not defined.

    The columns are :data:`MEASURES` of the mean of the channels, then, for stamps with several channels,
    :data:`MEASURES_OF_A_CHANNEL` of each. A mask is no channel here. Memory holds one stamp at a time.

    Args:
        samples: their stamps are measured.
        progress: called with a number of samples that are done.
    """
    rows = []
    for row in samples.rows:
        rows.append(_measurements(samples.packed[row][: samples.image_channels].astype(np.float64)))
        progress(1)
    fractions, exponents = np.frexp(np.array(rows))
    kept: NDArray[np.float64] = np.ldexp(np.round(fractions * 2**_BITS) / 2**_BITS, exponents)
    return kept


def _measurements(stamp: NDArray[np.float64]) -> list[float]:
    whole = _of_image(np.nanmean(stamp, axis=0) if len(stamp) > 1 else stamp[0])
    if len(stamp) == 1:
        return whole
    return [*whole, *(value for channel in stamp for value in _brightness(_above_background(channel)[0]))]


def _above_background(image: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Return the image without its background, the background, and the noise, both measured at the rim."""
    image = np.where(np.isfinite(image), image, np.nan)
    sky = image[rim(*image.shape) & np.isfinite(image)]
    background, noise = (float(np.median(sky)), float(mad_std(sky))) if sky.size else (0.0, np.nan)
    return np.nan_to_num(image - background), background, noise


def _brightness(image: NDArray[np.float64]) -> tuple[float, float]:
    return float(image.max()), float(image.sum())


def _of_image(image: NDArray[np.float64]) -> list[float]:
    signal, background, noise = _above_background(image)
    centre = (np.array(signal.shape[::-1]) - 1) / 2
    total = np.abs(signal).sum()
    # The light that turning by half a circle does not bring back to where it was (Conselice 2003, ApJS 147, 1).
    asymmetry = float(np.abs(signal - signal[::-1, ::-1]).sum() / (2 * total)) if total else np.nan
    peak, flux = _brightness(signal)
    # What does not stand out of the noise has no shape.
    dark = ~(signal > (_SIGMAS * noise if np.isfinite(noise) else 0.0))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # A stamp without a source has no shape, which is no fault of the survey.
        warnings.simplefilter("ignore")
        found = None if dark.all() else data_properties(signal, mask=dark)
        semimajor = float(found.semimajor_axis.value) if found is not None else np.nan
        ellipticity = float(found.ellipticity.value) if found is not None else np.nan
        return [
            background,
            noise,
            peak,
            flux,
            semimajor,
            ellipticity,
            _concentration(signal, centre),
            np.nan if dark.all() else float(gini(signal, mask=dark)),
            asymmetry,
        ]


def _concentration(signal: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """Return 5 log10(r80 / r20) of the light around the centre (Conselice 2003, ApJS 147, 1, section 3.1)."""
    radii = np.arange(0.5, min(signal.shape) / 2, 0.5)
    if len(radii) < 2:
        return float("nan")
    light = np.maximum.accumulate(CurveOfGrowth(signal, centre, radii).profile)
    if not light[-1] > 0:
        return float("nan")
    r20, r80 = np.interp([0.2, 0.8], light / light[-1], radii)
    return float(5 * np.log10(r80 / r20))
