import numpy as np
import pytest
from numpy.typing import NDArray

from spacewarps.seeds import numpy_generator
from spacewarps.survey.inspection.values import Folds, missing_codes, spread_over


def with_code(code: float, count: int, low: float = 14.0, high: float = 28.0) -> NDArray[np.float64]:
    values = np.random.default_rng(0).uniform(low, high, 200)
    values[:count] = code
    return values


@pytest.mark.parametrize("code", [-9999.0, -999.0, -99.0, 99.0, 999.99, 1e20, -1e30, -20.0, 100.0])
def test_a_round_value_far_from_all_others_is_a_code(code: float) -> None:
    assert missing_codes(with_code(code, 20), is_error=False) == [code]


def test_nines_below_zero_are_a_code_however_far_the_others_reach() -> None:
    assert missing_codes(with_code(-99, 20, 0, 5000), is_error=False) == [-99]
    assert missing_codes(with_code(-100, 20, 0, 5000), is_error=False) == []


def test_several_codes_are_found() -> None:
    values = with_code(-9999, 20)
    values[20:30] = 99
    assert missing_codes(values, is_error=False) == [-9999, 99]


@pytest.mark.parametrize(
    ("code", "count", "low", "high"),
    [
        (-9999.0, 1, 14.0, 28.0),
        (99.0, 20, 0.0, 98.9),
        (13.0, 20, 14.0, 28.0),
        (-20.5, 20, 14.0, 28.0),
        (0.0, 20, 0.001, 4.5),
    ],
)
def test_a_value_that_measurements_can_have_is_no_code(code: float, count: int, low: float, high: float) -> None:
    assert missing_codes(with_code(code, count, low, high), is_error=False) == []


def test_counts_that_lie_apart_are_no_codes() -> None:
    assert missing_codes(np.repeat([1.0, 2.0, 30.0], 20), is_error=False) == []


def test_errors_below_zero_are_missing_without_a_code() -> None:
    assert missing_codes(with_code(-9999, 20, 0.01, 0.1), is_error=True) == []
    assert missing_codes(with_code(9999, 20, 0.01, 0.1), is_error=True) == [9999]


def folds(of_class: NDArray[np.int64], sources: NDArray[np.int64] | None = None) -> Folds:
    rows = np.arange(len(of_class)) if sources is None else sources
    return Folds([f"class {number}" for number in of_class], rows.tolist())


def test_a_column_that_the_class_was_made_from_tells_it() -> None:
    values = np.random.default_rng(0).uniform(0, 10, 400)
    accuracy = folds((values > 5).astype(int)).accuracy_alone(values)
    assert accuracy is not None
    assert accuracy > 0.98


def test_a_column_of_chance_tells_as_much_as_guessing() -> None:
    rng = np.random.default_rng(0)
    accuracy = folds(rng.integers(0, 2, 600)).accuracy_alone(rng.normal(size=600))
    assert accuracy == pytest.approx(0.5, abs=0.06)


def test_what_is_missing_in_one_class_alone_tells_it() -> None:
    of_class = np.arange(200) % 2
    values = np.where(of_class == 0, np.nan, np.random.default_rng(0).normal(size=200))
    assert folds(of_class).accuracy_alone(values) == 1


def test_ids_of_64_bits_are_told_apart() -> None:
    of_class = np.repeat([0, 1], 100)
    values = 1.2376e18 + 1e6 * np.arange(200.0)
    accuracy = folds(of_class).accuracy_alone(values)
    assert accuracy is not None
    assert accuracy > 0.95


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    of_class = (np.arange(400) % 20 == 0).astype(int)
    accuracy = folds(of_class).accuracy_alone(np.random.default_rng(0).normal(size=400))
    assert accuracy == pytest.approx(0.5, abs=0.05)


def test_repeats_of_a_source_do_not_betray_each_other() -> None:
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(60), 10)
    of_class = rng.integers(0, 2, 60)[sources]
    accuracy = folds(of_class, sources).accuracy_alone(rng.normal(size=60)[sources])
    assert accuracy is not None
    assert accuracy < 0.7


def test_classes_of_few_sources_are_not_asked_about() -> None:
    assert folds(np.array([0] * 50 + [1] * 4)).accuracy_alone(np.arange(54.0)) is None
    assert folds(np.array([0] * 50 + [1] * 50)).accuracy_alone(np.full(100, np.nan)) is None


def test_a_sample_is_spread_and_the_same_each_time() -> None:
    def draw() -> list[int]:
        return list(spread_over(1000, 10, numpy_generator(1, "test")))

    assert draw() == draw()
    assert [number // 100 for number in draw()] == list(range(10))
    assert list(spread_over(7, 10, numpy_generator(1, "test"))) == list(range(7))
