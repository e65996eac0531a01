import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from spacewarps.evaluation.comparison import Answered, Baseline, learned_baselines, mcnemar, verdict
from spacewarps.evaluation.settings import BootstrapSettings

LABELS = np.arange(60) % 3


def answers(right: NDArray[np.bool_], sureness: float = 0.8) -> NDArray[np.float64]:
    predicted = np.where(right, LABELS, (LABELS + 1) % 3)
    probabilities = np.full((len(LABELS), 3), (1 - sureness) / 2)
    probabilities[np.arange(len(LABELS)), predicted] = sureness
    return probabilities


def answered(sources: NDArray[np.int64] | None = None) -> Answered:
    return Answered(LABELS, np.arange(60) if sources is None else sources, BootstrapSettings(500, 0.9), seed=1)


def test_the_gain_is_paired_by_sample() -> None:
    network, other = np.ones(60, dtype=bool), np.ones(60, dtype=bool)
    network[:6], other[:12] = False, False
    found = answered().compare(answers(network), Baseline("other", "the other", answers(other)))
    assert found["classifier"] == "the other"
    assert found["accuracy"] == pytest.approx(0.8)
    gain = found["gain"]
    assert gain["accuracy"] == pytest.approx(0.1)
    # Only the six samples that one alone has right count; of twelve and six mistakes apart, it would reach below.
    assert 0 < gain["accuracy_low"] < 0.1 < gain["accuracy_high"] < 0.2
    assert gain["log_loss"] == pytest.approx(0.1 * (np.log(0.8) - np.log(0.1)))
    assert gain["log_loss_low"] > 0
    assert gain["mcnemar_p"] == pytest.approx(2 * 0.5**6)


def test_samples_of_one_source_say_less_than_samples_of_many() -> None:
    other = np.ones(60, dtype=bool)
    other[:12] = False
    baseline = Baseline("other", "the other", answers(other))
    alone, grouped = (
        answered(sources).compare(answers(np.ones(60, dtype=bool)), baseline)["gain"]
        for sources in (np.arange(60), np.arange(60) // 6)
    )
    widths = [gain["accuracy_high"] - gain["accuracy_low"] for gain in (alone, grouped)]
    assert widths[1] > 1.5 * widths[0]


@given(one=st.integers(0, 40), two=st.integers(0, 40))
def test_mcnemar_is_the_two_sided_binomial_of_a_fair_coin(one: int, two: int) -> None:
    right = np.array([True] * one + [False] * two + [True] * 5)
    other = np.array([False] * one + [True] * two + [True] * 5)
    expected = min(1.0, 2 * binom.cdf(min(one, two), one + two, 0.5))
    assert mcnemar(right, other) == pytest.approx(expected)
    assert mcnemar(right, other) == pytest.approx(mcnemar(other, right))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.1, "yes, beyond noise"), (-0.01, 0.1, "not beyond noise"), (-0.1, -0.01, "no, it is worse beyond noise")],
)
def test_the_verdict_is_that_of_the_interval(low: float, high: float, said: str) -> None:
    assert verdict({"accuracy_low": low, "accuracy_high": high}) == said


def test_only_what_learned_is_compared_in_pairs() -> None:
    frequent, learned = {"accuracy": 0.3}, {"accuracy": 0.4, "gain": {}}
    assert learned_baselines({"baseline": {"most_frequent_class": frequent, "x": learned}}) == {"x": learned}
