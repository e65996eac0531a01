"""The values of one column of numbers: which are codes for "no value", and how well they alone tell the class."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.split import class_of_sources, fold_of_sources

#: From this balanced accuracy over folds on, a column by itself decides the class.
DECIDES = 0.97
# Rows that say as much as all: a share of 0.97 has a standard error of 0.003 there.
MOST_ROWS = 5_000
_FOLDS = 5
_LEAVES_OF_A_CLASS = 4
_SMALLEST_LEAF = 5
_SEED = 1
_NINES = re.compile(r"-?9{2,}(\.9+)?")
# Larger than any magnitude, flux or redshift, as 1e20 and 1e30 are.
_ABSURD = 1e19


def missing_codes(values: NDArray[np.float64], is_error: bool) -> list[float]:
    """Return the values that look like codes: round, in several rows, and outside of the range of all others.

    A number of nines, and one below 0 where all others are above, has to be less far away than, say, -1.

    Args:
        values: NaN where there is none.
        is_error: whether they are errors, of which those from 0 down count as missing in any case.
    """
    known = values[np.isfinite(values)]
    numbers, counts = np.unique(known[known > 0] if is_error else known, return_counts=True)
    found: list[float] = []
    while len(numbers) > 2:
        end = next((end for end in (0, -1) if _is_code(numbers, counts, end)), None)
        if end is None:
            break
        found.append(float(numbers[end]))
        numbers, counts = np.delete(numbers, end), np.delete(counts, end)
    return sorted(found)


def _is_code(numbers: NDArray[np.float64], counts: NDArray[np.int64], end: int) -> bool:
    """Say whether the number at one end of sorted ``numbers`` looks like a code."""
    number, others = numbers[end], np.delete(numbers, end)
    is_telling = bool(_NINES.fullmatch(f"{number:g}")) or abs(number) > _ABSURD
    if counts[end] < 2 or not (is_telling or float(number).is_integer()):
        return False
    gap, spread = np.abs(others - number).min(), np.ptp(others)
    if is_telling:
        return bool(gap > spread or number < 0 <= others[0])
    # A value that measurements can have is a code only where it is heaped up beside values that are hardly repeated.
    return bool(gap > spread and counts[end] >= 3 and counts[end] > 2 * np.delete(counts, end).max())


class Folds:
    """Rows that are dealt into folds, source by source, to ask how well one column tells the class.

    Args:
        labels: the class of each row; one of fewer sources than there are folds is left out.
        sources: the source of each row; none stands on both sides of a fold.
    """

    def __init__(self, labels: Sequence[str], sources: Sequence[int]) -> None:
        names = [str(source) for source in sources]
        class_of = class_of_sources(names, labels)
        count = Counter(class_of.values())
        classes = [label for label, sources_of in count.items() if sources_of >= _FOLDS]
        dealt = fold_of_sources({name: label for name, label in class_of.items() if label in classes}, _FOLDS, _SEED)
        kept = [
            row
            for row, (name, label) in enumerate(zip(names, labels, strict=True))
            if name in dealt and label in classes
        ]
        self._rows = np.array(kept, dtype=np.int64)
        self._fold = np.array([dealt[names[row]] for row in kept], dtype=np.int64)
        self._classes, self._class = np.unique([labels[row] for row in kept], return_inverse=True)

    def accuracy_alone(self, values: NDArray[np.float64]) -> float | None:
        """Return the balanced accuracy of a small tree on one column, over folds that it has not seen.

        Args:
            values: those of the column, ``[rows]``; NaN, which may tell the class as well, where there is none.

        Returns:
            From the share that guessing has, 1 over the number of classes, to 1; None where fewer than two classes have
            enough sources.
        """
        if len(self._classes) < 2:
            return None
        # scikit-learn takes a second to import.
        from sklearn.tree import DecisionTreeClassifier

        tree = DecisionTreeClassifier(
            max_leaf_nodes=_LEAVES_OF_A_CLASS * len(self._classes), min_samples_leaf=_SMALLEST_LEAF, random_state=_SEED
        )
        known = values[self._rows]
        finite = np.isfinite(known)
        if not finite.any():
            return None
        # A tree compares in float32, in which all ids of 64 bits would be one number.
        spread = np.std(known[finite]) or 1.0
        near_zero = np.where(finite, (known - np.median(known[finite])) / spread, np.nan).astype(np.float32)[:, None]
        right = np.zeros(len(known), dtype=bool)
        for fold in range(_FOLDS):
            out = self._fold == fold
            answers = tree.fit(near_zero[~out], self._class[~out]).predict(near_zero[out])
            right[out] = answers == self._class[out]
        return float(np.mean([right[self._class == number].mean() for number in range(len(self._classes))]))


def spread_over(size: int, most: int, generator: np.random.Generator) -> Sequence[int]:
    """Return at most ``most`` of the numbers below ``size``, one of each of as many equal parts."""
    if size <= most:
        return range(size)
    edges = np.linspace(0, size, most + 1).astype(int)
    return [int(generator.integers(first, last)) for first, last in pairwise(edges)]
