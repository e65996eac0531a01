"""What the outer folds of a cross-validation come to, together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.evaluation.bootstrap import mean_interval
from spacewarps.evaluation.losses import sample_losses
from spacewarps.evaluation.metrics import classification_metrics, expected_calibration_error
from spacewarps.evaluation.settings import BootstrapSettings
from spacewarps.seeds import numpy_generator


@dataclass(frozen=True)
class OuterFold:
    """What a network that was searched and trained without one part of the survey says of that part.

    Args:
        seed: which repeat it belongs to; each deals the sources anew.
        fold: its number, from 1.
        architecture: the blocks that were found, in words.
        seconds: what search, training and test took when they were done.
        predictions: a row for each sample of the part: ``id``, ``source``, ``label``, and ``p_CLASS`` for each class.
    """

    seed: int
    fold: int
    architecture: list[str]
    seconds: float
    predictions: pd.DataFrame

    def as_json(self, classes: list[str]) -> dict[str, Any]:
        """Return its line in the summary."""
        labels, probabilities = _answers(self.predictions, classes)
        scores = classification_metrics(labels, probabilities, classes)
        return {
            "seed": self.seed,
            "fold": self.fold,
            "architecture": self.architecture,
            "accuracy": scores["accuracy"],
            "balanced_accuracy": scores["balanced_accuracy"],
            "log_loss": scores["log_loss"],
            "samples": len(labels),
            "seconds": self.seconds,
        }


def summarise(folds: Sequence[OuterFold], classes: list[str], settings: BootstrapSettings, seed: int) -> dict[str, Any]:
    """Return what ``reports/crossvalidation.json`` holds.

    Every sample has one answer for each repeat, from a network that has not seen its source. A mean is over all of
    these answers. Its interval is that of the sources: they are resampled, each with all of its answers. ``sd_seeds``
    says how much the repeats differ by, as their networks saw other folds and other random numbers.

    Args:
        folds: all outer folds of all repeats.
        classes: the classes' names.
        settings: the resamples and the confidence of the intervals.
        seed: decides the resamples.
    """
    together = pd.concat([fold.predictions.assign(repeat=fold.seed) for fold in folds], ignore_index=True)
    labels, probabilities = _answers(together, classes)
    _, sources = np.unique(together["source"].to_numpy(dtype=str), return_inverse=True)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    scores = classification_metrics(labels, probabilities, classes)
    summary: dict[str, Any] = {"confidence": settings.confidence}
    for name, values in (("accuracy", right), ("log_loss", sample_losses(labels, probabilities))):
        low, high = mean_interval(
            values,
            sources,
            resamples=settings.bootstrap_resamples,
            confidence=settings.confidence,
            generator=numpy_generator(seed, "bootstrap", "crossvalidation", name),
        )
        of_repeats = together.assign(value=values).groupby("repeat")["value"].mean()
        summary[name] = {
            "mean": float(values.mean()),
            "low": low,
            "high": high,
            "sd_seeds": float(of_repeats.std(ddof=1)) if len(of_repeats) > 1 else None,
        }
    return summary | {
        "balanced_accuracy": scores["balanced_accuracy"],
        "ece": expected_calibration_error(labels, probabilities),
        "recall": scores["recall"],
        "average_precision": scores["average_precision"],
        "seconds": sum(fold.seconds for fold in folds),
        "samples": together["id"].nunique(),
        "sources": int(sources.max()) + 1,
        "folds": [fold.as_json(classes) for fold in folds],
    }


def _answers(predictions: pd.DataFrame, classes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    number = {name: position for position, name in enumerate(classes)}
    labels = np.array([number[label] for label in predictions["label"]], dtype=np.int64)
    probabilities: NDArray[np.float64] = predictions[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    return labels, probabilities
