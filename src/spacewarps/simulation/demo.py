"""The demo survey: made-up catalogues and stamps that look like a real delivery, faults included.

Stamps imitate g-band Pan-STARRS1 stacks (Chambers et al. 2016, arXiv:1612.05560) as the survey's cutout server draws
them; catalogues imitate the spectroscopy of a few SDSS-V fields. Units throughout: angles on a stamp in arcsec, on the
sky in degrees (ICRS); brightness in g magnitudes (AB); pixel values in counts, of which one is one detected electron.
"""

import csv
import io
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import galsim
import numpy as np
import numpy.typing as npt
from astropy.cosmology import FlatLambdaCDM
from PIL import Image

from spacewarps.errors import SurveyError
from spacewarps.interrupts import children_spared
from spacewarps.seeds import numpy_generator
from spacewarps.simulation.settings import MAX_SAMPLES, MIN_SAMPLES

FloatImage = npt.NDArray[np.float64]
ByteImage = npt.NDArray[np.uint8]

STAMP_SIZE = 75
PIXEL_SCALE = 0.25
JPEG_QUALITY = 95

ZERO_POINT = 31.1
"""Magnitude of one count, for a stack of about 500 s."""

SKY_NOISE = 33.0
"""Standard deviation of a pixel's counts from sky and readout; a point of 5 sigma then has the stacks' g = 23.3."""

RESAMPLING_KERNEL = np.array([-0.02, 0.09, 1.0, 0.09, -0.02])
"""How warping the exposures onto the stack's grid correlates neighbouring pixels: measured on real stamps."""

RESOLVED_RADIUS = 1.5
"""Half-light radius in arcsec from which a disk's inner structure shows through the point-spread function."""

GSPARAMS = galsim.GSParams(folding_threshold=0.02, maxk_threshold=5e-3, kvalue_accuracy=1e-3, maximum_fft_size=8192)
"""Accuracy below the noise: GalSim's own is finer than 8 bits can show, and costly for sharp Sersic profiles."""

CLIPPED_PERCENT = 0.25
ASINH_SOFTENING = 10.0
"""With these two, the noise of real stamps is symmetric again when the stretch is undone, at every sky level."""

CHUNK_SIZE = 16
"""Sources that a worker draws between two reports of progress."""

GALAXY, STAR, QSO = "GALAXY", "STAR", "QSO"

SHARE_OF_SOURCES = {
    (GALAXY, 1): 0.165,
    (GALAXY, 2): 0.048,
    (GALAXY, 3): 0.026,
    (GALAXY, 4): 0.026,
    (STAR, 1): 0.286,
    (STAR, 2): 0.008,
    (STAR, 3): 0.015,
    (STAR, 4): 0.046,
    (QSO, 1): 0.286,
    (QSO, 2): 0.088,
    (QSO, 3): 0.005,
    (QSO, 4): 0.001,
}
"""Share of the sources by (what it is, how many times it was observed); 1,177 rows are about 812 sources."""

GALAXY_REDSHIFTS = {
    0.0: 0.01, 0.12: 0.05, 0.19: 0.1, 0.36: 0.2, 0.52: 0.3, 0.66: 0.4, 0.76: 0.5, 0.82: 0.6, 0.89: 0.7, 0.93: 0.8,
    1.0: 0.997,
}  # fmt: skip
QSO_REDSHIFTS = {
    0.0: 0.09, 0.01: 0.2, 0.05: 0.4, 0.1: 0.61, 0.25: 0.97, 0.5: 1.38, 0.75: 1.92, 0.9: 2.39, 0.95: 2.75, 0.99: 3.78,
    1.0: 4.53,
}  # fmt: skip
"""Quantiles of the redshift, level to value: read off a real delivery, like the tables below."""

STAR_MAGNITUDES = {0.0: 15.2, 0.05: 16.0, 0.25: 16.85, 0.5: 17.8, 0.75: 19.1, 0.95: 20.7, 1.0: 21.8}
QSO_MAGNITUDES = {0.0: 16.5, 0.05: 18.0, 0.25: 19.2, 0.5: 19.95, 0.75: 20.5, 0.95: 21.0, 1.0: 22.0}
"""Quantiles of the g magnitude, level to value."""

GALAXY_MAGNITUDES = {0.005: 20.0, 0.05: 19.6, 0.075: 18.6, 0.15: 19.0, 0.3: 19.4, 0.5: 19.9, 0.8: 20.1}
"""Mean g magnitude at a redshift."""

STAR_LOG_ERRORS = {15.2: -5.1, 17.3: -4.9, 18.8: -4.6, 20.3: -4.1, 21.8: -3.7}
"""Decimal logarithm of a star's ``z_err`` at a g magnitude."""

GALAXY_LOG_ERRORS = {0.0: -4.5, 0.15: -4.45, 0.25: -4.22, 0.45: -3.95, 0.55: -3.75, 1.0: -3.65}
QSO_LOG_ERRORS = {
    0.1: -4.4, 0.3: -4.12, 0.5: -3.98, 0.7: -3.79, 0.9: -3.55, 1.1: -3.22, 1.4: -3.11, 1.75: -3.0, 2.25: -2.84,
    2.75: -2.7, 4.5: -2.65,
}  # fmt: skip
"""Decimal logarithm of ``z_err`` at a redshift, for g = 20."""

STAR_SUBCLASSES = {
    "F3/F5V (30743)": 0.46, "F0IV (81937)": 0.11, "F2V (33256)": 0.05, "WDhotter": 0.05, "WDcooler": 0.05,
    "F6V (16673)": 0.04, "K5 (G_19-24)": 0.04, "M5III (221615)": 0.03, "sd:F0 (G_84-29)": 0.03, "A2II (39866)": 0.03,
    "F8V (G_243-63)": 0.03, "K3V (32147)": 0.03, "G0Va (143761)": 0.03, "A4V (97603)": 0.02, "Carbon": 0.01,
}  # fmt: skip
GALAXY_SUBCLASSES = ["STARBURST", "STARBURST", "STARFORMING", "AGN", "BROADLINE", "AGN BROADLINE"]

COSMOLOGY = FlatLambdaCDM(H0=70.0, Om0=0.3)


@dataclass(frozen=True)
class Visit:
    """One observation of a region's field: the digits that tell repeats of a source apart."""

    field: int
    mjd: int


@dataclass(frozen=True)
class Region:
    """A patch of sky, its visits, and the share of the survey's sources that lie in it."""

    ra: float
    dec: float
    visits: tuple[Visit, ...]
    share: float


REGIONS = (
    Region(35.6, -5.1, (Visit(15000, 59146), Visit(15002, 59146), Visit(15000, 59163), Visit(15002, 59163)), 0.24),
    Region(19.5, -0.9, (Visit(15009, 59163),), 0.23),
    Region(321.5, -1.0, (Visit(15027, 59159),), 0.20),
    Region(115.0, 30.3, (Visit(15016, 59146), Visit(15018, 59163)), 0.20),
    Region(115.8, 38.2, (Visit(15017, 59147), Visit(15017, 59163)), 0.07),
    Region(354.3, -0.1, (Visit(15033, 59159), Visit(15033, 59163)), 0.06),
)

CELL_SIZE = 60.0
CELL_MARGIN = 10.0
"""A source lies in a cell of its own, this far from its border, so sources are at least twice this far apart."""


@dataclass(frozen=True)
class Source:
    """What is really there: ``early`` tells an elliptical galaxy (or host) from a spiral."""

    index: int
    kind: str
    z: float
    magnitude: float
    early: bool


@dataclass(frozen=True)
class Row:
    """One catalogue row. Rows of one source with the same ``exposure`` show the same stamp, byte for byte."""

    source: int
    visit: Visit
    sample_id: str
    image_name: str | None
    label: str
    subclass: str
    ra: float
    dec: float
    z: float
    z_err: float
    exposure: int = 0


@dataclass(frozen=True)
class StampJob:
    """What a worker needs to draw every stamp of one source: ``names`` are the files to write per exposure."""

    source: Source
    seed: int
    names: tuple[tuple[int, tuple[str, ...]], ...]


# --- What is in the sky -----------------------------------------------------------------------------------------------


def draw_quantile(rng: np.random.Generator, quantiles: Mapping[float, float]) -> float:
    """Return a draw from the distribution with these ``quantiles`` (level to value), linear between them."""
    return float(np.interp(rng.random(), list(quantiles), list(quantiles.values())))


def interpolate(x: float, knots: Mapping[float, float]) -> float:
    """Return the value at ``x`` of the broken line through ``knots``, level beyond its ends."""
    return float(np.interp(x, list(knots), list(knots.values())))


def draw_redshift(rng: np.random.Generator, kind: str) -> float:
    """Return a redshift; a star's is its radial velocity over c, and nothing bound to the Galaxy exceeds 0.004."""
    if kind == STAR:
        return float(np.clip(rng.normal(-7e-5, 4.2e-4), -0.0039, 0.0039))
    return draw_quantile(rng, GALAXY_REDSHIFTS if kind == GALAXY else QSO_REDSHIFTS)


def draw_magnitude(rng: np.random.Generator, kind: str, z: float) -> float:
    """Return a g magnitude among those that the spectrographs were pointed at.

    Galaxies were chosen by brightness, so their mean hardly fades with redshift. Beyond g = 22.3 a spectrum shows
    nothing; at g < 15 it would spill over its neighbours.
    """
    if kind == STAR:
        return draw_quantile(rng, STAR_MAGNITUDES)
    if kind == QSO:
        return draw_quantile(rng, QSO_MAGNITUDES)
    return float(np.clip(rng.normal(interpolate(z, GALAXY_MAGNITUDES), 1.2), 15.0, 22.3))


def half_light_radius(rng: np.random.Generator, z: float, magnitude: float, early: bool) -> float:
    """Return a half-light radius in arcsec from the size-luminosity relation (Shen et al. 2003) and its scatter.

    The K correction is Chilingarian et al. (2010), made linear. The relation is not followed beyond 10 kpc, where its
    sample ends; nor below 0.15 arcsec, which the point-spread function hides, or above 12, where a stamp sees no edge.
    """
    k_correction = (3.2 if early else 1.4) * z
    absolute = magnitude - float(COSMOLOGY.distmod(z).value) - k_correction
    typical_kpc = min(4.0 * 10 ** ((-0.22 if early else -0.15) * (absolute + 21.2)), 10.0)
    radius_kpc = typical_kpc * rng.lognormal(0.0, 0.4)
    return float(np.clip(radius_kpc * COSMOLOGY.arcsec_per_kpc_proper(z).value, 0.15, 12.0))


def draw_redshift_error(rng: np.random.Generator, kind: str, z: float, magnitude: float) -> float:
    """Return the fit's error of ``z``: it grows with the width of the lines, the redshift and the faintness."""
    if kind == STAR:
        return float(10 ** (interpolate(magnitude, STAR_LOG_ERRORS) + rng.normal(0.0, 0.17)))
    if kind == QSO:
        return float(10 ** (interpolate(z, QSO_LOG_ERRORS) + 0.1 * (magnitude - 20.0) + rng.normal(0.0, 0.25)))
    # A galaxy without strong lines sometimes gets a fit that fixes nothing.
    if rng.random() < 0.055:
        return float(10 ** rng.uniform(-1.0, 0.7))
    return float(10 ** (interpolate(z, GALAXY_LOG_ERRORS) + 0.1 * (magnitude - 20.0) + rng.normal(0.0, 0.3)))


def draw_subclass(rng: np.random.Generator, kind: str, z: float) -> str:
    """Return what the spectrum's fit adds to the class; often nothing."""
    if kind == STAR:
        shares = np.array(list(STAR_SUBCLASSES.values()))
        return str(rng.choice(list(STAR_SUBCLASSES), p=shares / shares.sum()))
    if kind == QSO:
        if z < 0.6 and rng.random() < 0.2:
            return "STARBURST BROADLINE"
        return "BROADLINE" if rng.random() < 0.74 else ""
    # Beyond z = 0.4 the lines that tell are faint, then leave the spectrograph's range.
    has_lines = rng.random() < (0.35 if z < 0.4 else 0.06)
    return str(rng.choice(GALAXY_SUBCLASSES)) if has_lines else ""


# --- Which rows observed it -------------------------------------------------------------------------------------------


def kinds_and_visits(n_samples: int, seed: int) -> list[tuple[str, int]]:
    """Return (kind, number of visits) of every source, such that the visits are ``n_samples`` in all."""
    strata = list(SHARE_OF_SOURCES)
    edges = np.cumsum(list(SHARE_OF_SOURCES.values()))
    mean_visits = sum(share * visits for (_, visits), share in SHARE_OF_SOURCES.items()) / edges[-1]
    n_sources = int(np.ceil(n_samples / mean_visits)) + 4
    # Evenly spaced quantiles instead of independent draws: a small survey then has every stratum too.
    quantiles = (np.arange(n_sources) + 0.5) / n_sources * edges[-1]
    order = numpy_generator(seed, "demo", "strata").permutation(n_sources)
    chosen: list[tuple[str, int]] = []
    left = n_samples
    for stratum in np.searchsorted(edges, quantiles)[order]:
        kind, visits = strata[stratum]
        if left:
            chosen.append((kind, min(visits, left)))
            left -= chosen[-1][1]
    return chosen


def object_numbers(n_sources: int, seed: int) -> list[int]:
    """Return a different number for every source, of 8 digits or, for about one in seven, of 9."""
    rng = numpy_generator(seed, "demo", "objects")
    n_long = max(1, round(0.135 * n_sources))
    short = 30_000_000 + rng.choice(42_000_000, n_sources - n_long, replace=False)
    long = 117_000_000 + rng.choice(8_000_000, n_long, replace=False)
    return [int(number) for number in rng.permutation(np.concatenate([short, long]))]


def sample_id(object_number: int, visit: Visit) -> str:
    """Return the id of one observation: 28 digits, or 29 where the object's number has 9."""
    return f"{object_number}00{visit.field}{visit.mjd}00060103"


def choose_regions(visit_counts: Sequence[int], seed: int) -> list[Region]:
    """Return a region for every source among those that were visited often enough."""
    regions = []
    for index, visits in enumerate(visit_counts):
        possible = [region for region in REGIONS if len(region.visits) >= visits]
        shares = np.array([region.share for region in possible])
        choice = numpy_generator(seed, "demo", index, "region").choice(len(possible), p=shares / shares.sum())
        regions.append(possible[int(choice)])
    return regions


def place_sources(regions: Sequence[Region], seed: int) -> list[tuple[float, float]]:
    """Return (ra, dec) of every source: each in a cell of its own of its region's square grid."""
    places = [(0.0, 0.0)] * len(regions)
    for number, region in enumerate(REGIONS):
        members = [index for index, of_source in enumerate(regions) if of_source == region]
        # Four cells for each source leave the field as uneven as a real one.
        side = int(np.ceil(2.0 * np.sqrt(len(members))))
        cells = numpy_generator(seed, "demo", "cells", number).choice(side * side, len(members), replace=False)
        for index, cell in zip(members, cells, strict=True):
            within = numpy_generator(seed, "demo", index, "place").uniform(CELL_MARGIN, CELL_SIZE - CELL_MARGIN, 2)
            east, north = (np.array(divmod(int(cell), side)) - side / 2) * CELL_SIZE + within
            dec = region.dec + north / 3600.0
            places[index] = (float(region.ra + east / 3600.0 / np.cos(np.radians(dec))), float(dec))
    return places


def draw_source(index: int, kind: str, seed: int) -> Source:
    """Return what is really there, from the source's own generator."""
    rng = numpy_generator(seed, "demo", index, "source")
    z = draw_redshift(rng, kind)
    early = bool(rng.random() < (0.3 if z < 0.1 else 0.6))
    return Source(index, kind, z, draw_magnitude(rng, kind, z), early)


def observe_source(
    source: Source, number: int, visits: Sequence[Visit], place: tuple[float, float], seed: int
) -> list[Row]:
    """Return the rows of one source as they would be without a fault."""
    rng = numpy_generator(seed, "demo", source.index, "rows")
    rows = []
    for visit in visits:
        z_err = draw_redshift_error(rng, source.kind, source.z, source.magnitude)
        z = source.z + rng.normal(0.0, min(z_err, 0.002))
        name = sample_id(number, visit)
        subclass = draw_subclass(rng, source.kind, source.z)
        rows.append(Row(source.index, visit, name, name, source.kind, subclass, *place, z, z_err))
    return rows


def draw_catalogue(n_samples: int, seed: int) -> tuple[list[Source], list[Row]]:
    """Return all sources and all rows in the order of delivery, faults included."""
    strata = kinds_and_visits(n_samples, seed)
    sources = [draw_source(index, kind, seed) for index, (kind, _) in enumerate(strata)]
    regions = choose_regions([visits for _, visits in strata], seed)
    places = place_sources(regions, seed)
    numbers = object_numbers(len(sources), seed)
    rows: list[Row] = []
    for source, (_, count), region, place, number in zip(sources, strata, regions, places, numbers, strict=True):
        rng = numpy_generator(seed, "demo", source.index, "visits")
        chosen = sorted(rng.choice(len(region.visits), count, replace=False))
        rows += observe_source(source, number, [region.visits[k] for k in chosen], place, seed)
    # Deliveries come field by field, so the rows of one source do not stand together.
    visits = [visit for region in REGIONS for visit in region.visits]
    rows.sort(key=lambda row: visits.index(row.visit))
    return sources, with_faults(rows, seed)


# --- What goes wrong with it ------------------------------------------------------------------------------------------


def with_faults(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return the rows with the faults of a real delivery, each at its real share and at least once."""
    rng = numpy_generator(seed, "demo", "faults")
    faulty = list(rows)
    untouched = set(range(len(rows)))
    counts = np.bincount([row.source for row in rows])
    repeated = {k for k, row in enumerate(rows) if counts[row.source] > 1}
    quasars = {k for k, row in enumerate(rows) if row.label == QSO}
    stars = {k for k, row in enumerate(rows) if row.label == STAR}
    first = {row.source: k for k, row in reversed(list(enumerate(rows)))}

    def put(share: float, eligible: Iterable[int], fault: Callable[[Row], Row]) -> None:
        candidates = sorted(untouched.intersection(eligible))
        count = min(max(1, round(share * len(rows))), len(candidates))
        for k in rng.choice(candidates, count, replace=False):
            faulty[k] = fault(faulty[k])
            untouched.discard(int(k))

    # A share of nothing: these two happen once, whatever the size.
    put(0.0, set(untouched) - repeated, lambda row: replace(row, sample_id="", image_name="nan"))
    put(0.0, set(untouched) - repeated, lambda row: replace(row, image_name=None))
    put(0.010, repeated & stars, mistake_sky_line_for_galaxy)
    put(0.010, repeated, unfitted_galaxy)
    put(0.042, untouched, unfitted_galaxy)
    put(0.005, quasars, lambda row: replace(row, z=0.0, z_err=0.0))
    put(0.009, quasars, lambda row: replace(row, z_err=-1.0))
    put(0.035, repeated - set(first.values()), lambda row: retaken(row, rng))
    return faulty


def unfitted_galaxy(row: Row) -> Row:
    """Return the row as the pipeline leaves it when it made no fit: an empty galaxy at redshift 0."""
    return replace(row, label=GALAXY, subclass="", z=0.0, z_err=0.0)


def mistake_sky_line_for_galaxy(row: Row) -> Row:
    """Return the row with a badly subtracted sky line taken for a broad H-alpha, always at the same redshift."""
    return replace(row, label=GALAXY, subclass="BROADLINE", z=0.20935 + row.z / 50.0, z_err=2.0e-5)


def retaken(row: Row, rng: np.random.Generator) -> Row:
    """Return the row with a stamp of its own, centred as well as a fibre is: within a fraction of an arcsec."""
    ra_shift, dec_shift = rng.normal(0.0, 0.1 / 3600.0, 2)
    return replace(row, ra=row.ra + ra_shift, dec=row.dec + dec_shift, exposure=row.visit.mjd + row.visit.field)


# --- What the telescope sees ------------------------------------------------------------------------------------------


def flux(magnitude: float) -> float:
    """Return the counts of a source of that g magnitude."""
    return float(10 ** (0.4 * (ZERO_POINT - magnitude)))


def point_spread_function(rng: np.random.Generator) -> galsim.GSObject:
    """Return a Moffat (1969) profile with a stack's spread of widths, wings and shapes.

    Fits to the unsaturated parts of stars on real stamps give a full width at half maximum of 0.97 +- 0.12 arcsec and
    a beta of 2.3 +- 0.25. Beta stays above 2, well clear of 1, where the light in the wings diverges.
    """
    fwhm = float(np.clip(rng.normal(0.99, 0.1), 0.75, 1.5))
    beta = float(np.clip(rng.normal(2.35, 0.2), 2.0, 3.5))
    e1, e2 = np.clip(rng.normal(0.0, 0.02, 2), -0.06, 0.06)
    return galsim.Moffat(beta=beta, fwhm=fwhm, gsparams=GSPARAMS).shear(e1=e1, e2=e2)


def galaxy_profile(rng: np.random.Generator, magnitude: float, radius: float, early: bool) -> galsim.GSObject:
    """Return a galaxy: an early type is one Sersic (1963) profile, a late one a disk.

    Disks wider than the seeing have a bulge and knots of star formation too.

    The Sersic index stays within 1 (a disk) and 4 (de Vaucouleurs) in steps of 0.5: every new index costs GalSim a
    table, and steeper profiles differ only in wings that the sky hides. The shear's axis ratio is above 0.25, as no
    disk is thinner.
    """
    total = flux(magnitude)
    if early:
        axis_ratio = rng.uniform(0.55, 1.0)
        index = 0.5 * int(rng.integers(4, 9))
        profile = galsim.Sersic(n=index, half_light_radius=radius, flux=total, gsparams=GSPARAMS)
    else:
        axis_ratio = rng.uniform(0.25, 1.0)
        profile = galsim.Exponential(half_light_radius=radius, flux=total, gsparams=GSPARAMS)
        if radius > RESOLVED_RADIUS:
            bulge = galsim.Sersic(n=2.0, half_light_radius=0.25 * radius, flux=total, gsparams=GSPARAMS)
            knots_rng = galsim.BaseDeviate(int(rng.integers(1, 2**31)))
            knots = galsim.RandomKnots(int(rng.integers(6, 25)), profile=profile, rng=knots_rng)
            bulge_share, knot_share = rng.uniform(0.0, 0.35), rng.uniform(0.0, 0.3)
            profile = bulge_share * bulge + knot_share * knots + (1.0 - bulge_share - knot_share) * profile
    return profile.shear(q=float(axis_ratio), beta=float(rng.uniform(0.0, np.pi)) * galsim.radians)


def nucleus_share(rng: np.random.Generator, kind: str, z: float) -> float:
    """Return which part of the light comes from a point in the centre.

    A quasar's nucleus outshines its host by a margin that spreads widely, and beyond z = 1 the host is lost in the
    noise. Beyond z = 0.15 the targets include galaxies with an active nucleus, which only a spectrum tells
    from quasars.
    """
    if kind == STAR:
        return 1.0
    if kind == QSO:
        host_share = rng.lognormal(np.log(0.3), 0.7) * np.exp(-((z / 0.8) ** 2))
        return float(np.clip(1.0 - host_share, 0.2, 1.0))
    is_active = z > 0.15 and rng.random() < 0.35
    return float(rng.uniform(0.3, 0.98)) if is_active else 0.0


def central_profile(rng: np.random.Generator, source: Source) -> galsim.GSObject:
    """Return the source itself: a point, a galaxy, or a point in a galaxy."""
    share = nucleus_share(rng, source.kind, source.z)
    nucleus = galsim.DeltaFunction(flux=share * flux(source.magnitude), gsparams=GSPARAMS)
    if share > 0.98:
        return nucleus
    host_magnitude = source.magnitude - 2.5 * np.log10(1.0 - share)
    radius = half_light_radius(rng, source.z, host_magnitude, source.early)
    host = galaxy_profile(rng, host_magnitude, radius, source.early)
    # Fibres are also put on the outskirts of large nearby galaxies.
    if source.z < 0.05 and rng.random() < 0.65:
        distance, angle = radius * rng.uniform(1.0, 2.5), rng.uniform(0.0, 2.0 * np.pi)
        host = host.shift(float(distance * np.cos(angle)), float(distance * np.sin(angle)))
    return host + nucleus if share > 0.0 else host


def neighbour_profiles(rng: np.random.Generator) -> list[galsim.GSObject]:
    """Return what else is on the stamp and just off it, and on one in eight something that blends with the source.

    Their counts, to the stack's depth, rise by 10^0.35 a magnitude for galaxies (Yasuda et al. 2001) and by 10^0.18 for
    stars, as at high galactic latitude (Bahcall & Soneira 1980).
    """
    half = STAMP_SIZE * PIXEL_SCALE / 2 + 3.0
    galaxies = [draw_neighbour_galaxy(rng) for _ in range(rng.poisson(1.5))]
    stars = [draw_neighbour_star(rng) for _ in range(rng.poisson(0.5))]
    field = [profile.shift(*(float(p) for p in rng.uniform(-half, half, 2))) for profile in [*galaxies, *stars]]
    if rng.random() < 0.125:
        distance, angle = rng.uniform(1.2, 4.0), rng.uniform(0.0, 2.0 * np.pi)
        companion = draw_neighbour_galaxy(rng) if rng.random() < 0.6 else draw_neighbour_star(rng)
        field.append(companion.shift(float(distance * np.cos(angle)), float(distance * np.sin(angle))))
    return field


def magnitude_by_counts(rng: np.random.Generator, slope: float) -> float:
    """Return a g magnitude from 14.5 to 23.3, with counts that rise by 10^``slope`` a magnitude."""
    faintest, brightest = 23.3, 14.5
    return float(faintest + np.log10(rng.uniform(10 ** (slope * (brightest - faintest)), 1.0)) / slope)


def draw_neighbour_star(rng: np.random.Generator) -> galsim.GSObject:
    """Return a star that happens to lie near the source."""
    return galsim.DeltaFunction(flux=flux(magnitude_by_counts(rng, 0.18)), gsparams=GSPARAMS)


def draw_neighbour_galaxy(rng: np.random.Generator) -> galsim.GSObject:
    """Return a galaxy that happens to lie near the source, of the angular size that its brightness suggests."""
    magnitude = magnitude_by_counts(rng, 0.35)
    radius = float(np.clip(0.7 * 10 ** (0.12 * (22.0 - magnitude)) * rng.lognormal(0.0, 0.3), 0.2, 6.0))
    return galaxy_profile(rng, magnitude, radius, early=bool(rng.random() < 0.3))


def correlated_noise(rng: np.random.Generator, variance: FloatImage) -> FloatImage:
    """Return noise of that variance a pixel, correlated between neighbours as resampling leaves it."""
    kernel = RESAMPLING_KERNEL / np.sqrt(np.sum(RESAMPLING_KERNEL**2))
    height, width = variance.shape
    white = rng.standard_normal((height + len(kernel) - 1, width + len(kernel) - 1))
    # Plain sums, since a matrix product may round differently with another number of threads.
    down = sum((weight * white[k : k + height] for k, weight in enumerate(kernel)), np.zeros((height, white.shape[1])))
    noise: FloatImage = sum(
        (weight * down[:, k : k + width] for k, weight in enumerate(kernel)), np.zeros(variance.shape)
    )
    return noise * np.sqrt(variance)


def stretch(counts: FloatImage) -> ByteImage:
    """Return counts as the cutout server draws them: clipped at the stamp's own percentiles, then asinh to 8 bits.

    A faint source therefore lies on a grey, noisy sky and a bright one on black.
    """
    low, high = np.percentile(counts, [CLIPPED_PERCENT, 100.0 - CLIPPED_PERCENT])
    linear = np.clip((counts - low) / (high - low), 0.0, 1.0)
    scaled: ByteImage = np.rint(255.0 * np.arcsinh(ASINH_SOFTENING * linear) / np.arcsinh(ASINH_SOFTENING)).astype(
        np.uint8
    )
    return scaled


def expose(source: Source, seed: int, exposure: int) -> ByteImage:
    """Return one stamp of the source; another exposure has other seeing, centring and noise, and the same sky."""
    scene_rng = numpy_generator(seed, "demo", source.index, "scene")
    rng = numpy_generator(seed, "demo", source.index, "exposure", exposure)
    scene = galsim.Sum([central_profile(scene_rng, source), *neighbour_profiles(scene_rng)])
    # The server cuts whole pixels: on real stamps a source lies up to two from the centre, mostly up and right.
    shift = PIXEL_SCALE * np.clip(rng.normal(0.75, 0.42, 2), -1.0, 2.0)
    seen = galsim.Convolve(scene.shift(*(float(s) for s in shift)), point_spread_function(rng))
    image = seen.drawImage(nx=STAMP_SIZE, ny=STAMP_SIZE, scale=PIXEL_SCALE, dtype=float, method="no_pixel")
    counts: FloatImage = image.array
    sky_variance = (SKY_NOISE * rng.lognormal(0.0, 0.12)) ** 2
    return stretch(counts + correlated_noise(rng, sky_variance + np.maximum(counts, 0.0)))


def encode(stamp: ByteImage) -> bytes:
    """Return the stamp as a greyscale JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(stamp).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


# --- The delivery -----------------------------------------------------------------------------------------------------


def write_stamps(jobs: Sequence[StampJob], images: Path) -> int:
    """Draw and write every stamp of ``jobs`` and return how many files that made."""
    written = 0
    for job in jobs:
        for exposure, names in job.names:
            content = encode(expose(job.source, job.seed, exposure))
            for name in names:
                (images / f"{name}.jpg").write_bytes(content)
            written += len(names)
    return written


def stamp_jobs(sources: Sequence[Source], rows: Sequence[Row], seed: int) -> list[StampJob]:
    """Return one job a source: its exposures, and under which names each is delivered."""
    names: list[dict[int, list[str]]] = [{} for _ in sources]
    for row in rows:
        if row.image_name is not None:
            names[row.source].setdefault(row.exposure, []).append(row.image_name)
    return [
        StampJob(source, seed, tuple((exposure, tuple(files)) for exposure, files in of_source.items()))
        for source, of_source in zip(sources, names, strict=True)
    ]


def write_catalogues(rows: Sequence[Row], catalog: Path) -> None:
    """Write both catalogues, numbers in single precision as a survey's FITS tables hold them."""
    with (catalog / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        labels = csv.writer(file, lineterminator="\n")
        labels.writerow(["id", "class", "subclass"])
        labels.writerows([row.sample_id, row.label, row.subclass] for row in rows)
    with (catalog / "redshifts.csv").open("w", encoding="utf-8", newline="") as file:
        redshifts = csv.writer(file, lineterminator="\n")
        redshifts.writerow(["id", "ra", "dec", "z", "z_err"])
        for row in rows:
            redshifts.writerow([row.sample_id, *(str(np.float32(x)) for x in (row.ra, row.dec, row.z, row.z_err))])


def simulate_survey(
    directory: Path,
    *,
    n_samples: int,
    seed: int,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a made-up survey of ``n_samples`` catalogue rows into the empty folder ``directory``.

    The same ``n_samples`` and ``seed`` give the same bytes in every file, whatever ``processes`` is: each source has
    generators of its own. ``progress`` is called with the number of stamps newly written.
    """
    if n_samples < MIN_SAMPLES:
        raise SurveyError(f"Number of samples must be at least {MIN_SAMPLES}, but got n_samples={n_samples}.")
    if n_samples > MAX_SAMPLES:
        raise SurveyError(f"Number of samples must be at most {MAX_SAMPLES}, but got n_samples={n_samples}.")
    if processes < 1:
        raise SurveyError(f"Number of processes must be at least 1, but got processes={processes}.")
    sources, rows = draw_catalogue(n_samples, seed)
    images, catalog = directory / "images", directory / "catalog"
    images.mkdir()
    catalog.mkdir()
    write_catalogues(rows, catalog)
    jobs = stamp_jobs(sources, rows, seed)
    chunks = [jobs[start : start + CHUNK_SIZE] for start in range(0, len(jobs), CHUNK_SIZE)]
    report = progress if progress is not None else lambda _: None
    if processes == 1:
        for chunk in chunks:
            report(write_stamps(chunk, images))
        return
    pool = _pool_of_processes(processes)
    try:
        with children_spared():
            drawn = [pool.submit(write_stamps, chunk, images) for chunk in chunks]
        for future in as_completed(drawn):
            report(future.result())
    finally:
        # Those that have not begun need not end.
        pool.shutdown(cancel_futures=True)


def _pool_of_processes(processes: int) -> Executor:
    """Return a pool of processes; of one thread where there is no shared memory for the processes' semaphores."""
    try:
        # Spawned, since a forked child of a process that has started torch's threads can hang.
        return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    except (OSError, ImportError):
        return ThreadPoolExecutor(1)
