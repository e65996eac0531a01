"""The network beside other classifiers, on the same samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from spacewarps.evaluation.bootstrap import balanced_accuracy_interval, difference_interval, mean_interval
from spacewarps.evaluation.losses import sample_losses
from spacewarps.evaluation.metrics import balanced_accuracy
from spacewarps.evaluation.settings import BootstrapSettings
from spacewarps.seeds import numpy_generator

#: The baseline that learns nothing but how frequent each class is.
MOST_FREQUENT = "most_frequent_class"


@dataclass(frozen=True)
class Baseline:
    """Another classifier, and what it answers.

    Args:
        name: in ``reports/metrics.json`` and in MLflow.
        title: in words.
        probabilities: of each class, ``[N, classes]``.
    """

    name: str
    title: str
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class RowSplit:
    """What the same training answers where rows are split without regard to their sources.

    Args:
        right: whether each sample of its test part was classified right, ``[N]``.
        seen: whether its source has other rows among those that were learned from, ``[N]``.
    """

    right: NDArray[np.bool_]
    seen: NDArray[np.bool_]

    def metrics(self, settings: BootstrapSettings, seed: int) -> dict[str, Any]:
        """Return the accuracy that would have been claimed, with the interval that rows by themselves would give."""
        low, high = mean_interval(
            self.right,
            np.arange(len(self.right)),
            resamples=settings.bootstrap_resamples,
            confidence=settings.confidence,
            generator=numpy_generator(seed, "bootstrap", "row split"),
        )
        return {
            "accuracy": float(self.right.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
            "samples": len(self.right),
            "samples_of_seen_sources": int(self.seen.sum()),
        }


@dataclass(frozen=True)
class Answered:
    """What was asked, and how sure one may be of what is measured.

    Args:
        labels: the number of each sample's class, ``[N]``.
        sources: the number of each sample's source, ``[N]``, from 0 without gaps.
        settings: of intervals.
        seed: decides every draw.
    """

    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    settings: BootstrapSettings
    seed: int

    def accuracies(self, predicted: NDArray[np.int64], name: str) -> dict[str, float]:
        """Return accuracy and balanced accuracy with their intervals."""
        right = predicted == self.labels
        low, high = mean_interval(right, self.sources, **self._draws(name))
        balanced_low, balanced_high = balanced_accuracy_interval(right, self.labels, self.sources, **self._draws(name))
        return {
            "accuracy": float(right.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
            "balanced_accuracy": balanced_accuracy(self.labels, predicted),
            "balanced_accuracy_low": balanced_low,
            "balanced_accuracy_high": balanced_high,
        }

    def compare(self, network: NDArray[np.float64], baseline: Baseline) -> dict[str, Any]:
        """Return what ``baseline`` is and how good, and in ``gain`` by how much the network is better, with intervals.

        The differences are paired by sample, and sources are resampled. ``mcnemar_p`` is the exact probability that
        chance alone gives as unequal a number of samples that only one of the two has right (McNemar 1947); unlike the
        intervals, it takes the rows of one source as independent.
        """
        predicted, other = network.argmax(axis=1), baseline.probabilities.argmax(axis=1)
        right, other_right = predicted == self.labels, other == self.labels
        low, high = difference_interval(right, other_right, self.sources, **self._draws(f"gain over {baseline.name}"))
        losses, other_losses = (sample_losses(self.labels, each) for each in (network, baseline.probabilities))
        saved = other_losses - losses
        loss_low, loss_high = mean_interval(saved, self.sources, **self._draws(f"loss saved over {baseline.name}"))
        accuracies = self.accuracies(other, baseline.name)
        return {
            "classifier": baseline.title,
            **accuracies,
            "log_loss": float(other_losses.mean()),
            "gain": {
                "accuracy": float(right.mean() - other_right.mean()),
                "accuracy_low": low,
                "accuracy_high": high,
                "balanced_accuracy": balanced_accuracy(self.labels, predicted) - accuracies["balanced_accuracy"],
                "log_loss": float(saved.mean()),
                "log_loss_low": loss_low,
                "log_loss_high": loss_high,
                "mcnemar_p": mcnemar(right, other_right),
            },
        }

    def _draws(self, name: str) -> dict[str, Any]:
        return {
            "resamples": self.settings.bootstrap_resamples,
            "confidence": self.settings.confidence,
            "generator": numpy_generator(self.seed, "bootstrap", name),
        }


def mcnemar(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p of McNemar's test (1947) of two classifiers, ``[N]`` each; 1 where they agree."""
    one, two = int((right & ~other).sum()), int((other & ~right).sum())
    return float(binomtest(one, one + two).pvalue) if one + two else 1.0


def verdict(gain: dict[str, float]) -> str:
    """Return whether the network is better, as its interval of the gain in accuracy says."""
    if gain["accuracy_low"] > 0:
        return "yes, beyond noise"
    return "no, it is worse beyond noise" if gain["accuracy_high"] < 0 else "not beyond noise"


def learned_baselines(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by name what ``reports/metrics.json`` says of each classifier that learned, in the order of learning."""
    return {name: found for name, found in metrics["baseline"].items() if name != MOST_FREQUENT}
