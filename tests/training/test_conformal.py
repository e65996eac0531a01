import numpy as np
import pytest
from numpy.typing import NDArray

from spacewarps.training.conformal import class_thresholds, prediction_sets


def drawn(samples: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities of three classes, one of them rare, and labels that no temperature would fit."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=samples, p=[0.6, 0.37, 0.03])
    logits = rng.normal(0, 1.5, size=(samples, 3))
    logits[np.arange(samples), labels] += np.array([3.0, 1.5, 0.5])[labels]
    odds = np.exp(2.5 * logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


def test_the_threshold_is_the_score_of_the_promised_rank() -> None:
    # What stands before the right class, 0: 0, then 0.5 and 0.6.
    probabilities = np.array([[0.8, 0.2], [0.5, 0.5], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]])
    labels = np.array([0, 0, 0, 0, 1])
    assert class_thresholds(probabilities, labels, 0.59)[0] == 0.6
    assert class_thresholds(probabilities, labels, 0.61)[0] == 0.7
    assert class_thresholds(probabilities, labels, 0.4)[0] == 0.0


def test_a_class_of_too_few_samples_for_the_promise_is_in_every_set() -> None:
    probabilities, labels = drawn(200, seed=0)
    few = (labels != 2) | (np.cumsum(labels == 2) <= 4)
    thresholds = class_thresholds(probabilities[few], labels[few], 0.9)
    assert thresholds[2] == 1.0
    assert prediction_sets(probabilities, thresholds)[:, 2].all()
    # Nine are enough for nine in ten; rounding would ask for a tenth.
    nine = np.tile([[0.3, 0.7]], (9, 1))
    assert class_thresholds(nine, np.zeros(9, dtype=np.int64), 0.9)[0] == 0.7


def test_the_most_probable_class_is_in_every_set_and_an_equal_one_may_be() -> None:
    probabilities, labels = drawn(500, seed=1)
    sets = prediction_sets(probabilities, class_thresholds(probabilities, labels, 0.5))
    assert sets[np.arange(500), probabilities.argmax(axis=1)].all()
    assert prediction_sets(np.array([[0.5, 0.5]]), (0.0, 0.0)).tolist() == [[True, False]]
    assert prediction_sets(np.array([[0.5, 0.5]]), (0.0, 0.5)).tolist() == [[True, True]]


@pytest.mark.parametrize("coverage", [0.6, 0.9, 0.97])
def test_new_samples_of_each_class_are_covered_as_promised(coverage: float) -> None:
    held = np.zeros(3)
    rounds = 200
    for seed in range(rounds):
        probabilities, labels = drawn(1000, seed=2 * seed)
        thresholds = class_thresholds(probabilities, labels, coverage)
        probabilities, labels = drawn(4000, seed=2 * seed + 1)
        right = prediction_sets(probabilities, thresholds)[np.arange(4000), labels]
        held += [right[labels == number].mean() for number in range(3)]
    # A mean over draws, whose own error is about 0.003 for the rare class.
    assert (held / rounds > coverage - 0.008).all()
    if coverage == 0.97:
        # Where nothing is promised that the first choice keeps already, no more is given.
        assert (held / rounds)[0] < 0.99
