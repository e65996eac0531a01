from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacewarps.evaluation.blind_spots import blind_spots
from spacewarps.evaluation.metrics import classification_metrics


def metrics_of(labels: list[int], predicted: list[int], classes: list[str], frequent: float) -> dict[str, Any]:
    probabilities: NDArray[np.float64] = np.eye(len(classes))[predicted]
    test = classification_metrics(np.array(labels), probabilities, classes)
    return {
        "test": {**test, "samples": len(labels)},
        "baseline": {"most_frequent_class": {"accuracy": frequent}},
    }


def test_a_network_that_sees_every_class_hides_nothing() -> None:
    assert blind_spots(metrics_of([0, 0, 1, 1], [0, 0, 1, 0], ["a", "b"], 0.5)) == []


def test_a_class_that_is_never_predicted_is_named_with_what_accuracy_hides() -> None:
    metrics = metrics_of([0] * 19 + [1], [0] * 20, ["NOT", "LENS"], 0.95)
    assert metrics["test"]["never_predicted"] == ["LENS"]
    assert blind_spots(metrics) == [
        "never predicted: LENS (1 of 20 test samples); accuracy 0.9500, balanced accuracy 0.5000",
        "accuracy 0.9500 is not above that of always answering the most frequent class of training, 0.9500",
    ]


def test_a_class_that_is_predicted_but_never_rightly_is_named() -> None:
    assert blind_spots(metrics_of([0, 0, 0, 1], [0, 0, 1, 0], ["a", "b"], 0.25)) == [
        "predicted, but never where it was right: b (1 of 4 test samples)"
    ]


def test_a_class_without_a_sample_is_not_measured_and_not_blamed() -> None:
    metrics = metrics_of([0, 0, 1], [0, 0, 1], ["a", "b", "c"], 0.5)
    assert metrics["test"]["never_predicted"] == []
    assert blind_spots(metrics) == ["without a test sample, so not measured: c"]


def test_of_many_classes_ten_are_named_in_the_words_of_the_page() -> None:
    labels = list(range(30))
    first, *_ = blind_spots(metrics_of(labels, [0] * 30, [f"c{n}" for n in labels], 0.0), lambda name: f"<{name}>")
    named = ", ".join(f"<c{n}>" for n in range(1, 11))
    assert first.startswith(f"never predicted: {named} and 19 more (29 of 30 test samples); ")


def test_what_the_network_is_not_better_than_is_named() -> None:
    def beside(low: float, loss: float = -0.1) -> dict[str, Any]:
        gain = {"accuracy": 0.01, "accuracy_low": low, "accuracy_high": 0.04, "log_loss": 0.05, "log_loss_low": loss}
        return {"classifier": "trees", "accuracy": 0.74, "gain": gain}

    metrics = metrics_of([0, 0, 1, 1], [0, 0, 1, 0], ["a", "b"], 0.5)
    metrics["baseline"] |= {"better": beside(0.001), "features_alone": beside(-0.02), "found_anew": beside(-0.02)}
    metrics["baseline"]["vgg"] = beside(-0.01, 0.02)
    assert blind_spots(metrics) == [
        "accuracy not better beyond noise than that of trees, 0.7400: +0.0100, interval -0.0200 to +0.0400",
        "accuracy not better beyond noise than that of trees, 0.7400: +0.0100, interval -0.0100 to +0.0400; "
        "log loss 0.0500 lower, beyond noise",
    ]
