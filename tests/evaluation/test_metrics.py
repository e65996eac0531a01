import math
from typing import Any

import numpy as np
import pytest

from spacewarps.errors import ModelError
from spacewarps.evaluation.metrics import (
    classification_metrics,
    confusion_matrix,
    expected_calibration_error,
    roc_curves,
)

CLASSES = ["a", "b", "c"]
# Six samples; four are right: a a | b | c, and one a is called b, one c is called a.
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.5, 0.1, 0.4]]
)


def test_metrics_are_those_worked_out_by_hand() -> None:
    result = classification_metrics(LABELS, PROBABILITIES, CLASSES)
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["precision"] == pytest.approx({"a": 2 / 3, "b": 1 / 2, "c": 1.0})
    assert result["recall"] == pytest.approx({"a": 2 / 3, "b": 1.0, "c": 1 / 2})
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 3)
    chosen = [0.8, 0.6, 0.2, 0.8, 0.7, 0.4]
    assert result["log_loss"] == pytest.approx(-sum(map(math.log, chosen)) / 6)
    # Pairs of a sample of the class and one of the others that are in the right order: 8 of 9, 5 of 5, 8 of 8.
    assert result["roc_auc"] == pytest.approx((8 / 9 + 1 + 1) / 3)
    # The precision at each sample of a class, in descending order of its probability; the third a comes fourth.
    assert result["average_precision"] == pytest.approx({"a": (1 + 1 + 3 / 4) / 3, "b": 1.0, "c": 1.0})
    # Each of the probabilities of the answers, 0.8 and 0.8, 0.7 and 0.7, 0.6, 0.5, has a bin of its own.
    assert result["ece"] == pytest.approx((abs(2 - 1.6) + abs(1 - 1.4) + abs(1 - 0.6) + abs(0 - 0.5)) / 6)


def test_confusion_counts_actual_by_predicted() -> None:
    matrix = confusion_matrix(LABELS, PROBABILITIES.argmax(axis=1), CLASSES)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_a_class_without_samples_is_left_out_of_the_means() -> None:
    there = LABELS != 2
    probabilities = PROBABILITIES[there]
    result = classification_metrics(LABELS[there], probabilities, CLASSES)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert result["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert result["recall"]["c"] == 0.0
    assert result["average_precision"]["c"] is None
    assert result["average_precision"]["b"] == 1.0
    assert set(roc_curves(LABELS[there], probabilities, CLASSES)) == {"a", "b"}
    assert confusion_matrix(LABELS[there], probabilities.argmax(axis=1), CLASSES).shape == (3, 3)


def test_a_split_of_one_class_has_no_roc() -> None:
    result = classification_metrics(np.zeros(2, dtype=np.int64), PROBABILITIES[:2], CLASSES)
    assert result["roc_auc"] is None
    assert result["accuracy"] == result["balanced_accuracy"] == 1.0
    assert roc_curves(np.zeros(2, dtype=np.int64), PROBABILITIES[:2], CLASSES) == {}


def test_a_wrong_answer_that_is_sure_gives_a_large_but_finite_loss() -> None:
    result = classification_metrics(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), ["a", "b"])
    assert 10 < result["log_loss"] < math.inf


def test_roc_runs_from_corner_to_corner() -> None:
    for false_rate, true_rate in roc_curves(LABELS, PROBABILITIES, CLASSES).values():
        assert (false_rate[0], true_rate[0]) == (0, 0)
        assert (false_rate[-1], true_rate[-1]) == (1, 1)
        assert (np.diff(false_rate) >= 0).all()
        assert (np.diff(true_rate) >= 0).all()
    false_rate, true_rate = roc_curves(LABELS, PROBABILITIES, CLASSES)["a"]
    # From 0.6 on two of the three are found and nothing else; at 0.2 all three and one of the three others.
    points = np.stack([false_rate, true_rate], axis=1)
    assert np.isclose(points, [0, 2 / 3]).all(axis=1).any()
    assert np.isclose(points, [1 / 3, 1]).all(axis=1).any()


def test_outputs_of_training_that_diverged_are_said_in_one_line() -> None:
    with pytest.raises(ModelError, match="not all finite, as its training diverged; lower its learning rate"):
        classification_metrics(np.array([0]), np.array([[math.nan, math.nan]]), ["a", "b"])


def two_classes(surest: list[float], right: list[bool]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return labels and probabilities of samples that are all called the first class."""
    probabilities = np.array([[p, 1 - p] for p in surest])
    return np.where(right, 0, 1), probabilities


def test_a_calibrated_network_has_no_calibration_error() -> None:
    labels, probabilities = two_classes([0.75] * 8, [True] * 6 + [False] * 2)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0, abs=1e-12)


def test_bins_of_calibration_hold_their_upper_end_and_count_by_their_samples() -> None:
    # 0.6 is the upper end of the ninth of 15 bins, so it shares one with 0.55 and none with 0.61.
    labels, probabilities = two_classes([0.6, 0.55, 0.61], [True, False, True])
    expected = (abs(1 - 0.6 - 0.55) + abs(1 - 0.61)) / 3
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)
    labels, probabilities = two_classes([1.0] * 4, [True, True, True, False])
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.25)
