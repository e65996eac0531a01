import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spacewarps.training.label_noise import contradicted_labels


def answers(labels: NDArray[np.int64], classes: int, seed: int, noise: float = 0.15) -> NDArray[np.float64]:
    logits = 3.0 * np.eye(classes)[labels] + np.random.default_rng(seed).normal(0, noise, (len(labels), classes))
    shares = np.exp(logits)
    probabilities: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 5))
def test_labels_that_were_swapped_are_found(seed: int, classes: int) -> None:
    right = np.arange(300) % classes
    swapped = np.random.default_rng(seed).choice(300, size=15, replace=False)
    labels = right.copy()
    labels[swapped] = (right[swapped] + 1) % classes
    found = contradicted_labels(answers(right, classes, seed), labels)
    assert set(found.rows) <= set(swapped)
    assert len(found.rows) >= 7
    assert (found.suggested == right[found.rows]).all()


def test_the_surest_contradiction_is_first() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    probabilities = np.where(np.eye(2)[labels] == 1, 0.8, 0.2)
    probabilities[3], probabilities[12] = [0.1, 0.9], [0.95, 0.05]
    found = contradicted_labels(probabilities, labels)
    assert (found.rows.tolist(), found.suggested.tolist()) == ([12, 3], [0, 1])


def test_a_class_that_is_always_unsure_needs_less_to_be_confident() -> None:
    # 0.55 is much for class 1, whose own samples have 0.5, and 0.45 is little for class 0.
    labels = np.array([0] * 5 + [1] * 5)
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.45, 0.55]] + [[0.5, 0.5]] * 5)
    assert contradicted_labels(probabilities, labels).rows.tolist() == [4]


def test_where_nothing_is_contradicted_nothing_is_listed() -> None:
    labels = np.arange(9) % 3
    found = contradicted_labels(np.eye(3)[labels] * 0.7 + 0.1, labels)
    assert len(found.rows) == len(found.suggested) == 0


def test_a_class_without_a_sample_is_never_suggested() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])
    assert 2 not in contradicted_labels(probabilities, labels).suggested


def test_a_class_that_is_less_probable_than_the_label_is_never_suggested() -> None:
    # Class 1 is confident for the last one, as it is always unsure, but less probable than its label, class 0.
    sure, unsure = [[0.9, 0.05, 0.05]] * 4, [[0.4, 0.2, 0.4]] * 4
    probabilities = np.array([*sure, *unsure, *[[0.05, 0.05, 0.9]] * 4, [0.30, 0.25, 0.45]])
    labels = np.array([0] * 4 + [1] * 4 + [2] * 4 + [0])
    assert 12 not in contradicted_labels(probabilities, labels).rows
