"""Which ids the files of a folder name, and whether each band has a file of its own."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from spacewarps.survey.stamps import JOINTS, StampFolder

#: Bands from short to long waves, as surveys call them; others stand in the order of the alphabet behind them.
BANDS = (
    *("fuv", "nuv", "u", "b", "g", "v", "r", "i", "z", "y", "vis", "j", "h", "k", "ks"),
    *("w1", "w2", "w3", "w4"),
)
_LONGEST_BAND = 40
#: A band that more ids lack is none of the survey, as rows without it would be left out.
MOST_WITHOUT = 0.05


class StampNames:
    """The names of a folder's files without their suffixes, to be compared with the cells of a catalogue."""

    def __init__(self, folder: StampFolder) -> None:
        self._stems = folder.files
        self._bands: dict[str, set[str]] = {}
        for stem in folder.files:
            for joint in JOINTS:
                key, found, band = stem.rpartition(joint)
                if found and key and 0 < len(band) <= _LONGEST_BAND:
                    self._bands.setdefault(key, set()).add(band)

    def has(self, cell: str) -> bool:
        """Say whether a file has this name."""
        return _composed(cell) in self._stems

    def has_bands(self, cell: str) -> bool:
        """Say whether files have this name with something behind it that could be a band."""
        return _composed(cell) in self._bands

    def bands_of(self, ids: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
        """Return the bands that nearly all of ``ids`` have, from short to long waves, and those of a part of them."""
        counts = Counter(band for key in ids for band in self._bands.get(_composed(key), ()))
        there = sum(1 for key in ids if self.has_bands(key))
        common = [band for band, count in counts.items() if count >= (1 - MOST_WITHOUT) * there]
        return tuple(by_wavelength(common)), by_wavelength(counts.keys() - set(common))


def by_wavelength(bands: Iterable[str]) -> list[str]:
    """Return ``bands`` from short to long waves.

    >>> by_wavelength(["z", "g", "r", "W1"])
    ['g', 'r', 'z', 'W1']
    """

    def order(band: str) -> tuple[int, str]:
        name = band.lower()
        return BANDS.index(name) if name in BANDS else len(BANDS), band

    return sorted(bands, key=order)


def _composed(cell: str) -> str:
    return unicodedata.normalize("NFC", cell)
