import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from spacewarps.search.clustered import Estimate, estimate


def named(numbers: np.ndarray) -> np.ndarray:
    return np.array([f"s{number}" for number in numbers])


def test_with_a_source_for_each_sample_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(0.3, 1.0, size=(2, 9))
    found = estimate(one - other, named(np.arange(9)), np.zeros(9, dtype=int))
    test = ttest_rel(one, other, alternative="greater")
    assert found.freedom == pytest.approx(test.df)
    assert found.mean / found.error == pytest.approx(test.statistic)
    assert found.above(0.0, test.pvalue * 1.001)
    assert not found.above(0.0, test.pvalue * 0.999)


def test_a_source_counts_once_however_often_it_was_observed() -> None:
    values = np.random.default_rng(2).normal(size=8)
    once = estimate(values, named(np.arange(8)), np.zeros(8, dtype=int))
    often = estimate(np.repeat(values, 5), named(np.repeat(np.arange(8), 5)), np.zeros(40, dtype=int))
    assert (often.mean, often.error, often.freedom) == pytest.approx((once.mean, once.error, once.freedom))


def test_each_class_counts_alike_with_the_variance_of_its_own_sources() -> None:
    rng = np.random.default_rng(3)
    many, few = rng.normal(0.0, 1.0, size=50), rng.normal(1.0, 1.0, size=4)
    classes = np.repeat([0, 2], [50, 4])
    found = estimate(np.append(many, few), named(np.arange(54)), classes)
    assert found.mean == pytest.approx((many.mean() + few.mean()) / 2)
    errors = [many.std(ddof=1) / 50**0.5 / 2, few.std(ddof=1) / 4**0.5 / 2]
    assert found.error == pytest.approx(math.hypot(*errors))
    freedom = (errors[0] ** 2 + errors[1] ** 2) ** 2 / (errors[0] ** 4 / 49 + errors[1] ** 4 / 3)
    assert found.freedom == pytest.approx(freedom)


def test_samples_of_one_source_in_several_classes_are_no_two_witnesses() -> None:
    values = np.array([1.0, -1.0, 1.0, -1.0])
    classes = np.array([0, 0, 1, 1])
    apart = estimate(values, named(np.arange(4)), classes)
    together = estimate(values, named(np.array([0, 1, 0, 1])), classes)
    opposed = estimate(values, named(np.array([0, 1, 1, 0])), classes)
    assert together.error == pytest.approx(apart.error * 2**0.5)
    assert opposed.error == 0.0


@pytest.mark.parametrize("classes", [[0, 0, 0, 1], [0, 0, 0, 0]])
def test_what_one_source_says_alone_is_never_beyond_noise(classes: list[int]) -> None:
    sources = named(np.array([0, 1, 2, 3]) if 1 in classes else np.zeros(4))
    found = estimate(np.array([0.9, 1.0, 1.1, 1.0]), sources, np.array(classes))
    assert found.mean == pytest.approx(1.0)
    assert found.error == math.inf
    assert not found.above(0.0, 0.5)
    assert not found.above(0.0, 1e-300)


def test_without_any_difference_there_is_nothing_above_nothing() -> None:
    found = estimate(np.zeros(6), named(np.arange(6)), np.zeros(6, dtype=int))
    assert found == Estimate(0.0, 0.0, 5.0)
    assert not found.above(0.0, 0.05)
    assert estimate(np.ones(6), named(np.arange(6)), np.zeros(6, dtype=int)).above(0.0, 1e-9)


@pytest.mark.parametrize("rare", [2, 3, 5])
def test_of_two_networks_that_are_alike_one_seldom_seems_better_in_any_class(rare: int) -> None:
    rng = np.random.default_rng(rare)
    classes = np.repeat([0, 1, 2], [100, 100, rare])
    sources = named(np.arange(len(classes)))
    right = rng.random((500, 2, len(classes))) < 0.85
    seems = [estimate(one.astype(float) - other, sources, classes).above(0.0, 0.05) for one, other in right]
    # Of 500 draws at a chance of 5%, more than 40 would come once in some hundred times.
    assert np.count_nonzero(seems) <= 40


def test_the_freedom_of_the_mean_of_few_is_that_of_student() -> None:
    values = np.array([0.1, 0.4, 0.2])
    found = estimate(values, named(np.arange(3)), np.zeros(3, dtype=int))
    test = ttest_1samp(values, 0.0, alternative="greater")
    assert (found.freedom, found.mean / found.error) == pytest.approx((2.0, test.statistic))


@pytest.mark.parametrize(("seen", "errors"), [(1, 1.0), (2, 1.0), (2, -1.0), (1, 2.0)])
def test_the_chance_to_end_above_is_what_happens_if_nothing_was_known_before(seen: int, errors: float) -> None:
    rng, folds, sigma = np.random.default_rng(4), 3, 1.0
    # Any mean is as likely as any other beforehand.
    truth = rng.uniform(-20, 20, size=4_000_000)
    so_far = truth + rng.normal(0, sigma / seen**0.5, size=len(truth))
    rest = truth + rng.normal(0, sigma / (folds - seen) ** 0.5, size=len(truth))
    in_the_end = (seen * so_far + (folds - seen) * rest) / folds * folds**0.5 / sigma
    near = np.abs(so_far - 0.4) < 0.05
    found = Estimate(0.4, sigma / seen**0.5, math.inf).chance_to_end_above(errors, seen / folds)
    assert (in_the_end[near] > errors).mean() == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize("error", [0.0, math.inf])
def test_without_a_known_error_every_chance_is_open(error: float) -> None:
    assert Estimate(-5.0, error, 1.0).chance_to_end_above(1.0, 0.5) == 1.0
