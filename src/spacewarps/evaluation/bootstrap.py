"""Intervals by resampling sources."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_RESAMPLES_AT_ONCE = 64


def accuracy_interval(
    right: NDArray[np.bool_],
    sources: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the share of ``right`` (Efron & Tibshirani 1993, chapter 13).

    Sources are resampled, not samples: the stamps of one source are alike, so each by itself says less than a new
    source would, and an interval over samples would be too narrow.

    Args:
        right: whether each sample was classified right, ``[N]``.
        sources: the number of each sample's source, ``[N]``, from 0 without gaps.
        resamples: how often the sources are drawn with replacement.
        confidence: the share of the resamples that lies inside.
        generator: makes the draws.
    """
    shares = _resampled_means(right.astype(np.float64), sources, resamples, generator)
    return _percentiles(shares, confidence)


def balanced_accuracy_interval(
    right: NDArray[np.bool_],
    labels: NDArray[np.int64],
    sources: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the interval of the mean of the classes' shares of ``right``, from the same draws as above.

    A class that a resample lacks is left out of its mean.

    Args:
        right: whether each sample was classified right, ``[N]``.
        labels: the number of each sample's class, ``[N]``.
        sources: the number of each sample's source, ``[N]``, from 0 without gaps.
        resamples: how often the sources are drawn with replacement.
        confidence: the share of the resamples that lies inside.
        generator: makes the draws.
    """
    shape = (int(sources.max()) + 1, int(labels.max()) + 1)
    cells = sources * shape[1] + labels
    samples = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    hits = np.bincount(cells, weights=right, minlength=shape[0] * shape[1]).reshape(shape)
    means = []
    for draws in _draws(shape[0], resamples, generator):
        # Whole numbers, so that their sums are exact in whatever order they are added.
        times = np.stack([np.bincount(draw, minlength=shape[0]) for draw in draws]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append(np.nanmean((times @ hits) / (times @ samples), axis=1))
    return _percentiles(np.concatenate(means), confidence)


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
    draws = _draws(len(counts), resamples, generator)
    return np.concatenate([sums[some].sum(axis=1) / counts[some].sum(axis=1) for some in draws])


def _draws(sources: int, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield which sources each resample draws, ``[resamples, sources]`` in all, some resamples at a time."""
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        yield generator.integers(sources, size=(min(_RESAMPLES_AT_ONCE, resamples - start), sources))


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
