"""How good a classifier is, from its probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from spacewarps.errors import ModelError

_CALIBRATION_BINS = 15


def classification_metrics(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: list[str]
) -> dict[str, Any]:
    """Return accuracy, balanced accuracy, macro F1, log loss, ``ece``, ROC area, and what concerns each class.

    ``ece`` is the expected calibration error. What concerns each class is its precision, recall, average precision and
    ``support`` (its number of samples here), and in ``never_predicted`` the classes that have samples but were never
    the answer. A precision or recall that is not defined is 0, an average precision that is not is none.

    Args:
        labels: the number of each sample's class, ``[N]``.
        probabilities: ``[N, classes]``; each row adds up to 1.
        classes: the classes' names.

    A mean over classes leaves out those that it is not defined for: the ones without a sample here (and, for F1, that
    were not predicted either).

    Raises:
        ModelError: a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ModelError("the network's outputs are not all finite, as its training diverged; lower its learning rate")
    numbers = np.arange(len(classes))
    predicted = probabilities.argmax(axis=1)
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0.0
    )
    areas = [area for number in numbers if (area := _roc_area(labels == number, probabilities[:, number])) is not None]
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "macro_f1": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "log_loss": float(metrics.log_loss(labels, probabilities, labels=numbers)),
        "ece": expected_calibration_error(labels, probabilities),
        "roc_auc": float(np.mean(areas)) if areas else None,
        "precision": {name: float(value) for name, value in zip(classes, precision, strict=True)},
        "recall": {name: float(value) for name, value in zip(classes, recall, strict=True)},
        "average_precision": {
            name: _average_precision(labels == number, probabilities[:, number]) for number, name in enumerate(classes)
        },
        "support": {name: int(value) for name, value in zip(classes, support, strict=True)},
        "never_predicted": [classes[number] for number in np.setdiff1d(labels, predicted)],
    }


def expected_calibration_error(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Return by how much the probability of the answer differs from the share of right answers, on average.

    The samples are put in 15 bins of equal width by the probability of their answer, and each bin counts by its samples
    (Guo et al. 2017, arXiv:1706.04599, equation 3). Many samples are needed: in small bins chance alone differs.

    Args:
        labels: the number of each sample's class, ``[N]``.
        probabilities: ``[N, classes]``.
    """
    surest = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # A bin holds its upper end and not its lower one.
    bins = np.ceil(surest * _CALIBRATION_BINS).clip(1, _CALIBRATION_BINS).astype(np.int64) - 1
    return float(np.abs(np.bincount(bins, weights=right - surest)).sum() / len(labels))


def balanced_accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the mean recall of the classes that have a sample among ``labels``."""
    samples = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(samples))
    there = samples > 0
    return float(np.mean(right[there] / samples[there]))


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: list[str]) -> NDArray[np.int64]:
    """Return counts ``[actual, predicted]``."""
    matrix: NDArray[np.int64] = metrics.confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    return matrix


def roc_curves(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: list[str]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the false and true positive rates of each class against the others, where the split has both."""
    curves = {}
    for number, name in enumerate(classes):
        is_class = labels == number
        if is_class.any() and not is_class.all():
            false_rate, true_rate, _ = metrics.roc_curve(is_class, probabilities[:, number])
            curves[name] = (false_rate, true_rate)
    return curves


def _average_precision(is_class: NDArray[np.bool_], probability: NDArray[np.float64]) -> float | None:
    return float(metrics.average_precision_score(is_class, probability)) if is_class.any() else None


def _roc_area(is_class: NDArray[np.bool_], probability: NDArray[np.float64]) -> float | None:
    if not is_class.any() or is_class.all():
        return None
    return float(metrics.roc_auc_score(is_class, probability))
