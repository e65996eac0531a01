"""Whether prediction sets keep what they promise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


class PredictionSets(NamedTuple):
    """Which classes each sample may have, ``[N, classes]``, and in what share of cases its own is promised to be."""

    sets: NDArray[np.bool_]
    promised: float


def set_metrics(
    given: PredictionSets, labels: NDArray[np.int64], classes: Sequence[str], confidence: float
) -> dict[str, Any]:
    """Return how many classes a set has on average, and how often it holds the right one.

    ``coverage`` is the share of all sets that hold the sample's class, ``of_class`` that of each class (none for a
    class without a sample), with its binomial interval (Clopper & Pearson 1934), which takes samples as independent.
    In ``broken`` are the classes whose interval lies below what was promised.

    Args:
        given: the sets.
        labels: the number of each sample's class, ``[N]``.
        classes: the classes' names.
        confidence: of the intervals.
    """
    sets, promised = given
    held = sets[np.arange(len(labels)), labels]
    of_class: dict[str, float | None] = {}
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for number, name in enumerate(classes):
        own = held[labels == number]
        of_class[name] = float(own.mean()) if len(own) else None
        if len(own):
            found = binomtest(int(own.sum()), len(own)).proportion_ci(confidence, method="exact")
            lows[name], highs[name] = float(found.low), float(found.high)
    return {
        "promised": promised,
        "size": float(sets.sum(axis=1).mean()),
        "coverage": float(held.mean()),
        "of_class": of_class,
        "of_class_low": lows,
        "of_class_high": highs,
        "broken": [name for name, high in highs.items() if high < promised],
    }
