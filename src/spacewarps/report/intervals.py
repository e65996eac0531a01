"""Shares with their uncertainty, and how they depend on something."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.sky import rim

_RELIABILITY_BINS = 10
# As many parts of a quantity as can be told apart, if each is to hold some sources.
_MOST_BINS, _SOURCES_A_BIN = 6, 15
_STAMPS_AT_ONCE = 1024


@dataclass(frozen=True)
class Share:
    """A share with its interval.

    Attributes:
        label: of what.
        value: the share.
        low: the end of its interval.
        high: the other end.
        samples: how many samples it is of.
        sources: how many sources these are of.
        expected: what it should be, where that is known.
    """

    label: str
    value: float
    low: float
    high: float
    samples: int
    sources: int
    expected: float | None = None


def wilson(share: float, number: float, confidence: float) -> tuple[float, float]:
    """Return the interval of a share of ``number`` independent things (Wilson 1927).

    What lies outside of 0 to 1, as only a file that was edited can hold, counts as the nearer of both.
    """
    share = min(1.0, max(0.0, share))
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = (z2 / number * (share * (1 - share) + z2 / (4 * number))) ** 0.5 / (1 + z2 / number)
    # Rounding may miss the ends by a bit.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def share_of(
    label: str,
    right: NDArray[np.bool_],
    sources: NDArray[np.int64],
    confidence: float,
    expected: float | None = None,
) -> Share:
    """Return the share of ``right``; the interval counts sources, as the samples of one are alike."""
    value, number = float(right.mean()), len(np.unique(sources))
    return Share(label, value, *wilson(value, number, confidence), len(right), number, expected)


def reliability(
    right: NDArray[np.bool_], surest: NDArray[np.float64], sources: NDArray[np.int64], confidence: float
) -> list[Share]:
    """Return how often answers were right by the probability that they had, in ten bins of equal width.

    ``expected`` is the mean probability in the bin. A bin holds its upper end and not its lower one.
    """
    bins = np.ceil(surest * _RELIABILITY_BINS).clip(1, _RELIABILITY_BINS).astype(np.int64)
    return [
        share_of(
            f"{(number - 1) / _RELIABILITY_BINS:.0%} to {number / _RELIABILITY_BINS:.0%}",
            right[inside],
            sources[inside],
            confidence,
            float(surest[inside].mean()),
        )
        for number in range(1, _RELIABILITY_BINS + 1)
        if (inside := bins == number).any()
    ]


def along(
    values: NDArray[np.float64], right: NDArray[np.bool_], sources: NDArray[np.int64], confidence: float
) -> list[Share]:
    """Return the share of ``right`` in parts of ``values`` that hold about as many samples each, and without a value.

    A quantity of a few different values has a part for each.
    """
    known = np.isfinite(values)
    found = []
    if known.any():
        different = np.unique(values[known])
        if len(different) <= _MOST_BINS:
            parts = [(f"{value:.3g}", values == value) for value in different]
        else:
            number = int(np.clip(len(np.unique(sources[known])) // _SOURCES_A_BIN, 1, _MOST_BINS))
            # Of equal edges, as half of the values may be zero, one is enough.
            edges = np.unique(np.quantile(values[known], np.linspace(0, 1, number + 1)))
            of = np.searchsorted(edges, values, side="left").clip(1, len(edges) - 1)
            parts = [
                (f"{low:.3g} to {high:.3g}", known & (of == part))
                for part, (low, high) in enumerate(pairwise(edges), start=1)
            ]
        found = [share_of(name, right[inside], sources[inside], confidence) for name, inside in parts if inside.any()]
    if not known.all():
        found.append(share_of("no value", right[~known], sources[~known], confidence))
    return found


def light(data: Space_Galaxi) -> dict[str, NDArray[np.float64]]:
    """Return the brightness and the background of each stamp of ``data``.

    The background is the median of the pixels at the rim; the brightness is by how much the
    mean of all pixels is above it. Both are in the survey's units.
    """
    _, height, width = data.stamp_shape
    at_rim = rim(height, width)
    background, brightness = np.empty(len(data)), np.empty(len(data))
    for start in range(0, len(data), _STAMPS_AT_ONCE):
        part = slice(start, start + _STAMPS_AT_ONCE)
        pixels = data.packed[data.rows[part]][:, : data.image_channels].astype(np.float64)
        background[part] = np.median(pixels[:, :, at_rim].reshape(len(pixels), -1), axis=1)
        brightness[part] = pixels.reshape(len(pixels), -1).mean(axis=1) - background[part]
    return {"brightness of the stamp": brightness, "background of the stamp": background}
