"""Positions as catalogues write them: degrees, or what is taken for degrees by mistake."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.columns import shown
from spacewarps.survey.numbers import read_numbers

_SEXAGESIMAL = re.compile(r"[-+\N{MINUS SIGN}]?\d++(\s*+[:hd\N{DEGREE SIGN}]|\s)\s*+\d.*", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+\N{MINUS SIGN}]?\d*,\d+")


def read_positions(
    ra: Sequence[str], dec: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str | None]]:
    """Return right ascension and declination in degrees, ``[rows]``, and why each row has no usable position.

    A reason stands for all rows with the same fault, and shows the first of them.
    """
    (east, no_east), (north, no_north) = read_numbers(ra), read_numbers(dec)
    usable = (np.abs(east) <= 360) & (np.abs(north) <= 90)
    faults: list[str | None] = [None if good else "no usable position" for good in usable.tolist()]
    reasons: dict[str, str] = {}
    for row in np.flatnonzero(no_east | no_north).tolist():
        text = ra[row] if no_east[row] else dec[row]
        # The beginning tells; some patterns take long on a long text.
        fault = _fault(text[:40])
        faults[row] = reasons.setdefault(fault, f"{fault}, such as {shown(text)}")
    return east, north, faults


def _fault(text: str) -> str:
    if _SEXAGESIMAL.fullmatch(text):
        return "position in hours, minutes or seconds instead of degrees"
    if _DECIMAL_COMMA.fullmatch(text):
        return "position with a decimal comma"
    return "position that is not a plain number of degrees"
