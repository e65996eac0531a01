import numpy as np
import pytest
from numpy.typing import NDArray

from spacewarps.evaluation.bootstrap import balanced_accuracy_interval, difference_interval, mean_interval


def interval(
    right: NDArray[np.bool_],
    sources: NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    return mean_interval(
        right, sources, resamples=resamples, confidence=confidence, generator=np.random.default_rng(seed)
    )


@pytest.fixture
def right() -> NDArray[np.bool_]:
    return np.random.default_rng(5).random(100) < 0.8


@pytest.mark.parametrize(("share", "expected"), [(1.0, (1.0, 1.0)), (0.0, (0.0, 0.0))])
def test_where_all_is_right_or_wrong_there_is_no_doubt(share: float, expected: tuple[float, float]) -> None:
    right = np.full(20, share == 1.0)
    assert interval(right, np.arange(20) // 2) == expected
    assert interval(right, np.zeros(20, dtype=np.int64)) == expected


def test_one_source_leaves_no_doubt_either() -> None:
    assert interval(np.array([True, False, True, True]), np.zeros(4, dtype=np.int64)) == (0.75, 0.75)


def test_samples_of_their_own_sources_give_the_binomial_interval(right: NDArray[np.bool_]) -> None:
    low, high = interval(right, np.arange(100), resamples=20_000)
    share = right.mean()
    deviation = np.sqrt(share * (1 - share) / 100)
    assert (low, high) == pytest.approx((share - 1.96 * deviation, share + 1.96 * deviation), abs=0.015)


def test_copies_of_the_same_source_do_not_narrow_the_interval(right: NDArray[np.bool_]) -> None:
    alone = interval(right, np.arange(100))
    copies = np.repeat(right, 9)
    over_sources = interval(copies, np.repeat(np.arange(100), 9))
    over_samples = interval(copies, np.arange(900))
    assert over_sources == alone
    assert over_sources[1] - over_sources[0] > 2.5 * (over_samples[1] - over_samples[0])


def test_sources_of_many_samples_weigh_more() -> None:
    right = np.array([True] * 9 + [False])
    sources = np.array([0] * 9 + [1])
    # A quarter of the draws has the large source only, a quarter the small one only; the others have nine of ten right.
    assert interval(right, sources) == (0.0, 1.0)
    assert interval(right, sources, confidence=0.4) == (0.9, 0.9)


def test_the_generator_alone_decides(right: NDArray[np.bool_]) -> None:
    sources = np.arange(100) // 2
    assert interval(right, sources, seed=1) == interval(right, sources, seed=1)
    assert len({interval(right, sources, seed=seed, resamples=100) for seed in range(5)}) > 1


def test_more_confidence_is_a_wider_interval(right: NDArray[np.bool_]) -> None:
    low, high = interval(right, np.arange(100), confidence=0.99)
    narrow_low, narrow_high = interval(right, np.arange(100), confidence=0.8)
    assert low < narrow_low < right.mean() < narrow_high < high


def test_a_classifier_does_not_differ_from_itself_and_a_clear_gain_is_above_0(right: NDArray[np.bool_]) -> None:
    def difference(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
        return difference_interval(
            one, other, np.arange(100), resamples=2000, confidence=0.95, generator=np.random.default_rng(0)
        )

    assert difference(right, right) == (0.0, 0.0)
    low, high = difference(np.ones(100, dtype=bool), right)
    assert 0 < low < 1 - right.mean() < high
    turned = difference(right, np.ones(100, dtype=bool))
    assert turned == pytest.approx((-high, -low))


def balanced(right: NDArray[np.bool_], labels: NDArray[np.int64], sources: NDArray[np.int64]) -> tuple[float, float]:
    return balanced_accuracy_interval(
        right, labels, sources, resamples=2000, confidence=0.95, generator=np.random.default_rng(0)
    )


def test_a_rare_class_that_is_never_found_is_missed_in_every_resample() -> None:
    labels = np.array([0] * 99 + [1])
    assert balanced(labels == 0, labels, np.arange(100)) == (0.5, 0.5)


def test_each_class_weighs_the_same_in_the_balanced_interval() -> None:
    labels = np.array([0] * 1000 + [1] * 10)
    right = np.array([True] * 1000 + [True] * 8 + [False] * 2)
    low, high = balanced(right, labels, np.arange(1010))
    # The shares of ten draws of 0.8: 5 of 10 to all.
    assert (low, high) == (0.75, 1.0)


def test_with_one_class_the_balanced_interval_is_the_plain_one(right: NDArray[np.bool_]) -> None:
    sources = np.arange(100) // 2
    assert balanced(right, np.zeros(100, dtype=np.int64), sources) == interval(right, sources)
