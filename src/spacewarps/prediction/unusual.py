"""Which samples are unlike all that a network learned from, in words."""

import numpy as np
from numpy.typing import NDArray

from spacewarps.prediction.reference import Range, Reference


def unusual_in(features: NDArray[np.float32], measured: NDArray[np.float64], reference: Reference) -> list[str]:
    """Return what is odd about each sample, or nothing.

    Args:
        features: in catalogue units, ``[N, F]``; NaN where there is no value.
        measured: the :func:`~spacewarps.prediction.reference.levels` of their stamps, ``[N, 2]``.
        reference: what the network learned from.
    """
    told: list[list[str]] = [[] for _ in measured]
    for column, (name, known) in enumerate(reference.features.items()):
        values = features[:, column].astype(np.float64)
        # A network takes what is not finite for missing.
        missing = ~np.isfinite(values)
        _tell(told, missing, f"{name} missing")
        if known is not None:
            _tell_outside(told, np.where(missing, known.low, values), known, name)
        else:
            _tell(told, ~missing, f"{name} never seen")
    for column, (name, known) in enumerate((("brightness", reference.brightness), ("spread", reference.spread))):
        _tell_outside(told, measured[:, column], known, f"stamp's {name}")
    return ["; ".join(words) for words in told]


def _tell_outside(told: list[list[str]], values: NDArray[np.float64], known: Range, name: str) -> None:
    _tell(told, values < known.low, f"{name} below")
    _tell(told, values > known.high, f"{name} above")


def _tell(told: list[list[str]], where: NDArray[np.bool_], word: str) -> None:
    for number in np.flatnonzero(where):
        told[number].append(word)
