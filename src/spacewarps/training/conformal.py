"""Prediction sets: the classes that a sample may have, which hold its own with a promised probability."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def class_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], coverage: float
) -> tuple[float, ...]:
    """Return, for each class, the score up to which it belongs into a prediction set.

    Split conformal prediction, each class by itself (Vovk 2012, arXiv:1209.2673), with the cumulative score of Romano,
    Sesia & Candès (2020, arXiv:2006.02544) but for its random part: the score of a class is the probability of all
    classes that are more probable. So the most probable class is in every set, and sets grow with doubt. Of ``n``
    samples of a class the threshold is the score of rank ``ceil((n + 1) * coverage)``: of new samples of that class, at
    least the share ``coverage`` has it in its set, if they are drawn as these were. A class of too few samples for that
    is in every set.

    Args:
        probabilities: of samples that the network did not learn from, ``[N, classes]``.
        labels: the classes of these samples, ``[N]``.
        coverage: the promised share, above 0 and below 1.
    """
    own = _scores(probabilities)[np.arange(len(labels)), labels]
    thresholds = []
    for number in range(probabilities.shape[1]):
        scores = np.sort(own[labels == number])
        # Without the rounding that makes 0.9 * 10 more than 9.
        rank = math.ceil(round((len(scores) + 1) * coverage, 9))
        thresholds.append(float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return tuple(thresholds)


def prediction_sets(probabilities: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Return which classes each sample may have, ``[N, classes]``, from its probabilities of the same shape."""
    sets: NDArray[np.bool_] = _scores(probabilities) <= np.asarray(thresholds)
    return sets


def _scores(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of all classes before each one, in the order of their probabilities."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_ = np.take_along_axis(probabilities, order, axis=1)
    before = np.concatenate([np.zeros((len(sorted_), 1)), np.cumsum(sorted_, axis=1)[:, :-1]], axis=1)
    scores = np.empty_like(before)
    np.put_along_axis(scores, order, before, axis=1)
    # The sum of all but the last may round to more than 1.
    return scores.clip(max=1.0)
