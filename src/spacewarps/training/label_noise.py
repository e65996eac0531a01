"""Labels that networks contradict which have not learned from them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Contradicted(NamedTuple):
    """Samples whose label is contradicted with confidence, the surest first.

    Args:
        rows: which samples, ``[M]``.
        suggested: the number of the class that is confident instead, ``[M]``.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]


def contradicted_labels(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Contradicted:
    """Return which labels are contradicted with confidence, by confident learning (Northcutt et al. 2021, section 3.1).

    A class is confident for a sample if its probability is at least the mean that it has over all samples which carry
    it as their label. Of several confident classes the most probable counts. A sample is contradicted where that is
    not its label and is more probable than it; most surely where it is so by most.

    Args:
        probabilities: of networks that did not learn from the sample, ``[N, classes]``.
        labels: the number of each sample's class, ``[N]``.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    samples = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        thresholds = np.bincount(labels, weights=own, minlength=classes) / samples
    # Of a class without a sample nothing is known, so it is never confident.
    thresholds[samples == 0] = np.inf
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    margins = confident.max(axis=1) - own
    rows = np.flatnonzero((suggested != labels) & (margins > 0))
    rows = rows[np.argsort(-margins[rows], kind="stable")]
    return Contradicted(rows, suggested[rows])
