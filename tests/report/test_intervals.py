from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from spacewarps.report.intervals import along, light, reliability, share_of, wilson
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey


@pytest.mark.parametrize(("right", "number"), [(0, 5), (8, 10), (10, 10), (50, 200)])
def test_intervals_are_those_of_wilson(right: int, number: int) -> None:
    expected = binomtest(right, number).proportion_ci(0.9, method="wilson")
    low, high = wilson(right / number, number, 0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= right / number <= high <= 1


def test_a_share_that_is_none_has_the_interval_of_the_nearest() -> None:
    assert wilson(-3.0, 10, 0.9) == wilson(0.0, 10, 0.9)
    assert wilson(1e300, 10, 0.9) == wilson(1.0, 10, 0.9)


def test_the_samples_of_one_source_count_as_one() -> None:
    right = np.array([True, True, True, False])
    apart, together = (share_of("x", right, sources, 0.9) for sources in (np.arange(4), np.array([0, 0, 0, 1])))
    assert (together.samples, together.sources) == (4, 2)
    assert apart.value == together.value == 0.75
    assert together.low < apart.low
    assert apart.high < together.high


def test_the_bins_of_reliability_hold_their_upper_end() -> None:
    surest = np.array([0.35, 0.4, 0.401, 1.0])
    bins = reliability(np.array([True, False, True, True]), surest, np.arange(4), 0.9)
    assert [(each.label, each.samples, each.value) for each in bins] == [
        ("30% to 40%", 2, 0.5),
        ("40% to 50%", 1, 1.0),
        ("90% to 100%", 1, 1.0),
    ]
    assert bins[0].expected == pytest.approx(0.375)


def test_each_sample_stands_in_one_part_of_a_quantity() -> None:
    rng = np.random.default_rng(0)
    # Half of the values are the same, and some are missing.
    values = np.where(rng.random(300) < 0.5, 0.0, rng.normal(size=300))
    values[:20] = np.nan
    values[20:25] = np.inf
    shares = along(values, rng.random(300) < 0.8, np.arange(300), 0.95)
    assert sum(share.samples for share in shares) == 300
    assert shares[-1].label == "no value"
    assert shares[-1].samples == 25
    assert 3 <= len(shares) <= 7
    assert len({share.label for share in shares}) == len(shares)


def test_a_quantity_of_few_values_has_a_part_for_each() -> None:
    shares = along(np.array([1.0, 2.0, 2.0]), np.array([True, False, True]), np.arange(3), 0.95)
    assert [(share.label, share.samples) for share in shares] == [("1", 1), ("2", 2)]


def test_a_quantity_without_any_value_has_one_part() -> None:
    shares = along(np.full(3, np.nan), np.array([True, False, True]), np.arange(3), 0.95)
    assert [(share.label, share.samples) for share in shares] == [("no value", 3)]


def test_the_background_is_that_of_the_rim(draw_survey: Callable[..., PreparedSurvey]) -> None:
    survey = draw_survey(channels=2, dtype="float32")
    survey.stamps[:] = 7.0
    survey.stamps[:, :, 4:12, 4:12] = 11.0
    measured = light(Space_Galaxi(survey, split="test"))
    assert measured["background of the stamp"].tolist() == [7.0] * 30
    assert measured["brightness of the stamp"] == pytest.approx(np.full(30, 4.0 * 64 / 256))
