"""Which rows of a catalogue are one source on the sky."""

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord, search_around_sky
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def group_sources(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius_arcsec: float, digests: list[str]
) -> NDArray[np.int64]:
    """Return the number of each row's source, ``[rows]``, counted from 0 in order of first appearance.

    Rows within ``radius_arcsec`` of each other are one source, and so are all that a chain of such rows links. Rows
    whose stamps are the same file, byte for byte, are one source wherever the catalogue puts them: apart, the same
    picture could stand in training and in test.

    Args:
        ra: right ascension in degrees, ``[rows]``; NaN where the survey has no positions.
        dec: declination in degrees, ``[rows]``.
        radius_arcsec: rows closer than this are one source; 0 leaves the sky out of it.
        digests: a digest of each row's stamp file, ``[rows]``.
    """
    rows = len(ra)
    left, right = _same_picture(digests)
    if radius_arcsec > 0 and not np.isnan(ra).any():
        # Rows at one and the same place, as where a survey writes 0, 0 for no position, would pair up all with all.
        places, first, place = np.unique(np.column_stack([ra, dec]), axis=0, return_index=True, return_inverse=True)
        left, right = np.append(left, np.arange(rows)), np.append(right, first[place])
        # search_around_sky refuses a single point.
        if len(places) > 1:
            sky = SkyCoord(*places.T * units.deg)
            near, far, _, _ = search_around_sky(sky, sky, radius_arcsec * units.arcsec)
            left, right = np.append(left, first[near]), np.append(right, first[far])
    links = coo_matrix((np.ones(len(left), dtype=bool), (left, right)), shape=(rows, rows))
    _, component = connected_components(links, directed=False)
    _, first, source = np.unique(component, return_index=True, return_inverse=True)
    # np.unique counts by value; order of first appearance does not depend on how scipy numbers components.
    return np.argsort(np.argsort(first))[source].astype(np.int64)


def _same_picture(digests: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of rows, each row beside the first that has the same digest."""
    first: dict[str, int] = {}
    partners = [first.setdefault(digest, row) for row, digest in enumerate(digests)]
    return np.arange(len(digests), dtype=np.int64), np.array(partners, dtype=np.int64)
