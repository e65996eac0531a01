"""The cells of a catalogue as numbers."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# What stands, in any case, where a catalogue has nothing to say.
NO_VALUE = frozenset({"", "nan", "null", "none", "na", "n/a", "--"})


def read_number(text: str) -> float | None:
    """Return the number that ``text`` is, NaN where it says that there is none, and None where it is no number."""
    if text.lower() in NO_VALUE:
        return math.nan
    try:
        # Python alone reads 1_5 as 15. A minus sign of typography is still one.
        return None if "_" in text else float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None


def read_numbers(texts: Iterable[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the numbers of ``texts``, NaN where there is none, and which of them are no numbers."""
    numbers = [read_number(text) for text in texts]
    unreadable = np.array([number is None for number in numbers], dtype=bool)
    return np.array([math.nan if number is None else number for number in numbers], dtype=np.float64), unreadable
