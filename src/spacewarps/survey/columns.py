"""The columns that a survey's catalogue is asked for, and which of its own names look like them."""

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import islice

from spacewarps.settings import settings

# As catalogues name them: ra, RAJ2000, ra_deg, RA_ICRS, raMean, gaia_ra, ALPHA_J2000; dec, decl, DEJ2000, DELTA_J2000.
_WHOSE = r"(mean|obj|object|target|source|src|plug|fiber|image|best|cat|gaia|sdss)?"
_FRAME = r"((j|b|fk5|icrs)?\d{0,4}(deg|degrees|icrs|fk5|mean|stack|targ|target|obj|gaia|sdss|epoch)?(j?\d{4})?)"
_SEXTRACTOR = r"(win|peak|psf|model)?(j2000|sky|b1950)"
_RIGHT_ASCENSION = re.compile(rf"{_WHOSE}(ra|rightascension){_FRAME}|alpha{_SEXTRACTOR}")
_DECLINATION = re.compile(rf"{_WHOSE}(dec|decl|declination|de(?=j|icrs|deg|fk5)){_FRAME}|delta{_SEXTRACTOR}")
# Of a survey with a name of its own, as ls_ra; but e_ra and pm_ra are no positions.
_NO_PREFIX = re.compile(r"(e|err|error|pm|d|sig|sigma|std|unc|cos)[_ .-].*")
# As catalogues name what they identify a source by, and what they call its class, without case and separators.
_HABITS = {
    "id": re.compile(
        r"(spec|phot|best|gal|source|src|object|obj|target|targ|star|cat|unique|component|recno|gaia|sdss|main|iau|tic|kic)?"
        r"(id|no|name|number)(str|dr\d+)?|designation|specobjid|recno"
    ),
    "label": re.compile(
        r"(obj|object|spec|source|src|true|human|final|morph|galaxy|main|auto)?(class|classification|label|type)(name|id)?"
        r"|morphology|category|target"
    ),
}
_SEPARATOR = re.compile(r"[_ .-]")


@settings
class Columns:
    """The catalogue's names for what every survey has.

    ``ra`` and ``dec`` are in degrees (ICRS); both are None for a survey without positions, and ``label`` for one whose
    classes nobody knows.

    Raises:
        SettingsError: one of ``ra`` and ``dec`` is None, or two of the names are the same.
    """

    id: str = "id"
    label: str | None = "class"
    ra: str | None = "ra"
    dec: str | None = "dec"

    def __post_init__(self) -> None:
        if (self.ra is None) != (self.dec is None):
            raise ValueError(
                "ra and dec must both be names, or both null for a survey without positions, but got "
                f"ra={self.ra!r:.80} and dec={self.dec!r:.80}"
            )
        names = [name for name in (self.id, self.label, self.ra, self.dec) if name is not None]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"id, label, ra and dec must be different columns, but {shown(twice)} stands for two")

    @property
    def positions(self) -> tuple[str, str] | None:
        """The names of right ascension and declination, if there are any."""
        return None if self.ra is None or self.dec is None else (self.ra, self.dec)


def shown(name: str) -> str:
    """Return ``name`` in quotes, as text that stays on its line, whatever a damaged file holds."""
    return repr(name if len(name) <= 40 else f"{name[:40]}...")


def listed(names: Iterable[str]) -> str:
    """Return the first of ``names`` as text that stays on its line."""
    return ", ".join(shown(name) for name in islice(names, 12))


def nearest(name: str, there: Sequence[str]) -> str | None:
    """Return the column of ``there`` that is most likely meant by ``name``: the same in another case, or a near one."""
    of_lower = {column.lower(): column for column in reversed(there)}
    near = difflib.get_close_matches(name.lower(), of_lower, n=1)
    return of_lower[near[0]] if near else None


def habitual(what: str, there: Sequence[str]) -> list[str]:
    """Return the columns of ``there`` that look like what catalogues call ``id`` or ``label``."""
    pattern = _HABITS[what]
    return [name for name in there if pattern.fullmatch(re.sub(r"[^a-z0-9]", "", name.lower()))]


def positions_among(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the first names that look like right ascension and declination; None if there is no such pair."""
    ra = next((name for name in names if _looks_like(name, "ra", _RIGHT_ASCENSION)), None)
    dec = next((name for name in names if _looks_like(name, "dec", _DECLINATION)), None)
    return None if ra is None or dec is None else (ra, dec)


def _looks_like(name: str, plain: str, pattern: re.Pattern[str]) -> bool:
    lower = name.lower()
    if pattern.fullmatch(re.sub(r"[^a-z0-9]", "", lower)):
        return True
    return _SEPARATOR.split(lower)[-1] == plain and not _NO_PREFIX.fullmatch(lower)
