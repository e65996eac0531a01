"""Where positions in the sky lie on an image, by its header (WCS), distortions by polynomials (SIP) included."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The standard ends there. Room for an order that a header claims is made before anything is read.
_HIGHEST_ORDER = 9
_ORDERS = tuple(f"{name}_ORDER" for name in ("A", "B", "AP", "BP"))
# How far a distortion may move a source, as a share of the image's sides.
_DISTORTED = 0.25
# Positions of which each is asked for at once.
_FEW = 100
# Pixels; what remains of a distortion is iterated until it is smaller.
_TOLERANCE = 1e-6
# The library that reads headers keeps what it finds in places that threads share.
_lock = threading.RLock()


class WorldError(Exception):
    """A header does not say where in the sky its image is; the message is why."""


@contextmanager
def _faults_of_a_header() -> Iterator[None]:
    with _lock, warnings.catch_warnings(action="ignore"):
        try:
            yield
        except (WorldError, MemoryError):
            raise
        except Exception as error:
            # A damaged header fails in as many ways as there are projections.
            raise WorldError(f"a WCS that cannot be read ({' '.join(str(error).split()):.120})") from None


class WorldCoordinates:
    """Where an image of some ``height`` and ``width`` is in the sky.

    Args:
        header: that of the image.
        height: pixels.
        width: pixels.

    Raises:
        WorldError: it does not say, or in a way that cannot be read.
    """

    def __init__(self, header: Any, height: int, width: int) -> None:
        from astropy.wcs import WCS
        from astropy.wcs.utils import wcs_to_celestial_frame

        self._height, self._width = height, width
        with _faults_of_a_header():
            for name in _ORDERS:
                order = header.get(name, 0)
                if not (isinstance(order, int) and 0 <= order <= _HIGHEST_ORDER):
                    raise WorldError(f"a WCS of {name} = {order!r:.20}, where orders end at {_HIGHEST_ORDER}")
            if any(header.get(name, 0) > 1 for name in _ORDERS) and not _names_its_distortion(header):
                raise WorldError("a WCS with distortions (SIP) that its CTYPE does not name; add -SIP, or remove them")
            wcs = WCS(header)
            if not wcs.has_celestial:
                raise WorldError("no WCS in its header")
            self._axes = [wcs.wcs.lng, wcs.wcs.lat]
            if sorted(self._axes) != [0, 1]:
                raise WorldError("a WCS whose first two axes are not those of the sky")
            self._wcs = wcs.celestial
            self._frame = wcs_to_celestial_frame(self._wcs)

    def pixels_of(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the row and the column of positions, ``[n, 2]``, in pixels from the centre of the first; or NaN.

        Args:
            ra: degrees (ICRS).
            dec: degrees.

        Raises:
            WorldError: what the header says leads nowhere.
        """
        from astropy.coordinates import SkyCoord

        pixels = np.full((len(ra), 2), np.nan)
        with _faults_of_a_header():
            near = np.arange(len(ra)) if len(ra) < _FEW else self._near(ra, dec)
            if not len(near):
                return pixels
            there = SkyCoord(ra[near], dec[near], unit="deg").transform_to(self._frame).spherical
            world = np.empty((len(near), 2))
            world[:, self._axes] = np.stack([there.lon.deg, there.lat.deg], axis=1)
            roughly = self._wcs.wcs_world2pix(world, 0)
            sides = np.array([self._width, self._height])
            # A distortion is only known on the image; elsewhere it leads astray.
            inside = ((roughly > -1 - _DISTORTED * sides) & (roughly < (1 + _DISTORTED) * sides)).all(axis=1)
            near, found = near[inside], self._exactly(world[inside])
        # What a number's last bits say must not decide between two pixels.
        pixels[near] = np.round(found[:, ::-1], 5)
        return pixels

    def margins(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far each of ``pixels`` lies from the nearest edge of the image, negative if it lies outside."""
        sides = np.array([self._height, self._width])
        margins: NDArray[np.float64] = np.minimum(pixels + 0.5, sides - 0.5 - pixels).min(axis=1)
        return np.where(np.isnan(margins), -np.inf, margins)

    def _exactly(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        from astropy.wcs import NoConvergence

        if not len(world):
            return np.empty((0, 2))
        try:
            found = self._wcs.all_world2pix(world, 0, tolerance=_TOLERANCE, maxiter=50)
        except NoConvergence as error:
            found = error.best_solution
            for lost in (error.divergent, error.slow_conv):
                found[[] if lost is None else lost] = np.nan
        return np.asarray(found, np.float64)

    def _near(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return which positions can lie on the image, without asking it for each."""
        from astropy.coordinates import ICRS

        rows, columns = np.meshgrid(np.linspace(0, self._height, 3), np.linspace(0, self._width, 3), indexing="ij")
        world = self._wcs.all_pix2world(columns.ravel() - 0.5, rows.ravel() - 0.5, 0)
        if not np.isfinite(world).all():
            # An image of the whole sky has corners that are nowhere.
            return np.arange(len(ra))
        sky = _sky(world[self._axes[0]], world[self._axes[1]], self._frame).transform_to(ICRS())
        directions = _directions(sky.ra.deg, sky.dec.deg)
        centre = directions[len(directions) // 2]
        farthest = float(np.arccos(np.clip(directions @ centre, -1, 1)).max())
        radius = min(np.pi, (1 + 2 * _DISTORTED) * farthest + 1e-4)
        return np.flatnonzero(_directions(ra, dec) @ centre >= np.cos(radius))


def _names_its_distortion(header: Any) -> bool:
    return all(str(header.get(name, "")).strip().endswith("-SIP") for name in ("CTYPE1", "CTYPE2"))


def _sky(longitude: NDArray[np.float64], latitude: NDArray[np.float64], frame: Any) -> Any:
    from astropy.coordinates import SkyCoord

    return SkyCoord(longitude, latitude, unit="deg", frame=frame)


def _directions(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors, ``[n, 3]``."""
    east, north = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(east) * np.cos(north), np.sin(east) * np.cos(north), np.sin(north)], axis=1)
