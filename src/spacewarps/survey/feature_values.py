"""The values of one feature: which are missing, which are codes, and which were never numbers."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.columns import shown
from spacewarps.survey.numbers import read_numbers

_NINES = re.compile(r"-?9{2,}(\.9+)?")
# Larger than any magnitude, flux or redshift, as 1e20 and 1e30 are.
_ABSURD = 1e19


def read_feature(
    name: str,
    texts: Sequence[str],
    places: Sequence[str],
    *,
    is_error: bool,
    codes: Sequence[float],
    max_bad_fraction: float,
    audit: Audit,
) -> NDArray[np.float64]:
    """Return the values of the feature ``name``, ``[rows]``, NaN where there is none.

    What ``audit`` learns: how many values are missing, are codes or are no numbers, and notes on what looks wrong.

    Args:
        name: the feature.
        texts: its cells, ``[rows]``.
        places: where each row stands, ``[rows]``.
        is_error: whether it is the error of another feature, which the network takes as missing from 0 down.
        codes: the values that mean that there is none.
        max_bad_fraction: the largest share of cells that may hold something else than a number.
        audit: what was found goes there.

    Raises:
        SurveyError: more of the cells hold no number.
    """
    values, unreadable = read_numbers(texts)
    bad, rows = int(unreadable.sum()), len(values)
    if bad:
        row = int(np.argmax(unreadable))
        example = f"such as {shown(texts[row])} in {places[row]}"
        if bad > max_bad_fraction * rows or bad == rows:
            raise SurveyError(
                f"{bad} of {rows} values of the feature {shown(name)} are not numbers, {example}; write them as plain "
                f"numbers with a decimal point, or leave what is unknown empty (`max_bad_fraction`="
                f"{max_bad_fraction:g})"
            )
        audit.notes.append(
            f"feature {shown(name)}: {bad} of {rows} values are not numbers and count as missing, {example}"
        )
    coded = np.isin(values, codes)
    values[coded] = np.nan
    if rows and not np.isfinite(values).any():
        audit.notes.append(f"feature {shown(name)}: no row has a value")
    for code, count in _suspected_codes(values[values > 0] if is_error else values):
        audit.notes.append(
            f"feature {shown(name)}: {code:g} stands in {count} of {rows} rows, far from all other values; "
            f"if it means that there is none, add it to `missing_codes` ({name:.40}: [{code:g}])"
        )
    counts = {"missing": int(np.sum(~np.isfinite(values))), "not_a_number": bad}
    if codes:
        counts["codes"] = int(coded.sum())
    if is_error:
        counts |= {"negative": int(np.sum(values < 0)), "zero": int(np.sum(values == 0))}
    audit.details.setdefault("features", {})[name] = counts
    return values


def _suspected_codes(values: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Return the smallest and largest of ``values`` that look like codes (-9999, 99), and how often each stands."""
    numbers, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    found: list[tuple[float, int]] = []
    while len(numbers):
        end = next((end for end in (0, len(numbers) - 1) if counts[end] > 1 and _is_code(numbers, end)), None)
        if end is None:
            break
        found.append((float(numbers[end]), int(counts[end])))
        numbers, counts = np.delete(numbers, end), np.delete(counts, end)
    return found


def _is_code(numbers: NDArray[np.float64], end: int) -> bool:
    """Say whether the number at one end of sorted ``numbers`` looks like a code beside the others."""
    number, others = numbers[end], np.delete(numbers, end)
    if not (_NINES.fullmatch(f"{number:g}") or abs(number) > _ABSURD):
        return False
    if not len(others) or (number < 0 <= others[0]):
        return True
    return bool(np.abs(others - number).min() > np.ptp(others))
