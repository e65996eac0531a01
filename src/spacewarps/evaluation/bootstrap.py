"""Intervals by resampling sources."""

import numpy as np
from numpy.typing import NDArray

_RESAMPLES_AT_ONCE = 64


def mean_interval(
    values: NDArray[np.bool_] | NDArray[np.float64],
    sources: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values`` (Efron & Tibshirani 1993, chapter 13).

    Sources are resampled, not samples: the stamps of one source are alike, so each by itself says less than a new
    source would, and an interval over samples would be too narrow.

    Args:
        values: one of each sample, ``[N]``; whether it was classified right gives the interval of the accuracy.
        sources: the number of each sample's source, ``[N]``, from 0 without gaps.
        resamples: how often the sources are drawn with replacement.
        confidence: the share of the resamples that lies inside.
        generator: makes the draws.
    """
    return _percentiles(_resampled_means(values.astype(np.float64), sources, resamples, generator), confidence)


def balanced_accuracy_interval(
    right: NDArray[np.bool_],
    labels: NDArray[np.int64],
    sources: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the interval of the mean of the classes' shares of ``right``.

    The sources of each class are resampled by themselves. From all sources together, some draws would lack a rare
    class, and count as if there were none to miss.

    Args:
        right: whether each sample was classified right, ``[N]``.
        labels: the number of each sample's class, ``[N]``.
        sources: the number of each sample's source, ``[N]``.
        resamples: how often the sources are drawn with replacement.
        confidence: the share of the resamples that lies inside.
        generator: makes the draws.
    """
    shares = []
    for label in np.unique(labels):
        of_class = labels == label
        _, own = np.unique(sources[of_class], return_inverse=True)
        shares.append(_resampled_means(right[of_class].astype(np.float64), own, resamples, generator))
    return _percentiles(np.mean(shares, axis=0), confidence)


def difference_interval(
    right: NDArray[np.bool_],
    other: NDArray[np.bool_],
    sources: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the interval of the difference of two accuracies on the same samples, drawn in pairs as above."""
    differences = right.astype(np.float64) - other.astype(np.float64)
    return _percentiles(_resampled_means(differences, sources, resamples, generator), confidence)


def _resampled_means(
    values: NDArray[np.float64], sources: NDArray[np.int64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return the mean of ``values`` in each of ``resamples`` draws of the sources."""
    sums, counts = np.bincount(sources, weights=values), np.bincount(sources).astype(np.float64)
    number = len(counts)
    means = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        draws = generator.integers(number, size=(min(_RESAMPLES_AT_ONCE, resamples - start), number))
        means.append(sums[draws].sum(axis=1) / counts[draws].sum(axis=1))
    return np.concatenate(means)


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
