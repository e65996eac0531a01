import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spacewarps.features import are_errors
from spacewarps.model.normalisers import FeatureNormaliser, StampNormaliser, stamps_to_fit

pytestmark = pytest.mark.usefixtures("compute")

NAN = float("nan")
BAD_VALUES = [NAN, float("inf"), float("-inf")]
BAD_ERRORS = [*BAD_VALUES, 0.0, -0.0, -1.0, -9999.0]


@pytest.fixture
def features() -> torch.Tensor:
    rng = np.random.default_rng(0)
    z = rng.lognormal(-2, 1.5, size=200)
    return torch.tensor(np.stack([z, 0.1 * z], axis=1), dtype=torch.float32)


@pytest.fixture
def fitted(features: torch.Tensor) -> FeatureNormaliser:
    normaliser = FeatureNormaliser([False, True])
    normaliser.fit(features)
    return normaliser


def test_an_error_is_known_by_the_name_of_its_feature() -> None:
    assert are_errors(["z", "z_err", "flux_err", "_err"]) == [False, True, False, False]
    assert are_errors(["z_err", "z"]) == [True, False]


@pytest.mark.parametrize("bad", BAD_ERRORS)
def test_an_invalid_error_is_imputed_and_flagged_like_any_other(fitted: FeatureNormaliser, bad: float) -> None:
    assert torch.equal(fitted(torch.tensor([[0.3, bad]])), fitted(torch.tensor([[0.3, NAN]])))


@pytest.mark.parametrize("bad", BAD_VALUES)
def test_an_invalid_value_is_imputed_and_flagged_like_any_other(fitted: FeatureNormaliser, bad: float) -> None:
    assert torch.equal(fitted(torch.tensor([[bad, 0.1]])), fitted(torch.tensor([[NAN, 0.1]])))


def test_a_value_that_is_no_error_may_be_zero_or_negative(fitted: FeatureNormaliser) -> None:
    flags = fitted(torch.tensor([[0.0, 0.1], [-1.0, 0.1]]))[:, -2:]
    assert torch.equal(flags, torch.zeros(2, 2))


def test_what_is_missing_differs_from_the_mean_by_its_flag_only(fitted: FeatureNormaliser) -> None:
    columns = fitted(torch.tensor([[NAN, NAN]]))[0]
    assert torch.equal(columns, torch.tensor([0.0] * 6 + [1.0, 1.0]))
    seen = fitted(torch.tensor([[0.3, NAN]]))[0]
    assert (seen[:3] != 0).all()
    assert torch.equal(seen[3:], torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))


def test_the_training_split_has_mean_0_and_deviation_1(fitted: FeatureNormaliser, features: torch.Tensor) -> None:
    values = fitted(features)[:, :6].double()
    assert values.mean(dim=0).tolist() == pytest.approx([0.0] * 6, abs=1e-5)
    assert values.std(dim=0, correction=0).tolist() == pytest.approx([1.0] * 6, abs=1e-3)


def test_invalid_values_do_not_shift_the_fit(fitted: FeatureNormaliser, features: torch.Tensor) -> None:
    other = FeatureNormaliser([False, True])
    bad = torch.tensor([[NAN, -1.0], [float("inf"), 0.0], [float("-inf"), NAN]])
    other.fit(torch.cat([features, bad]))
    assert all(torch.equal(a, b) for a, b in zip(fitted.buffers(), other.buffers(), strict=True))


def test_a_feature_without_any_value_or_spread_stays_finite() -> None:
    normaliser = FeatureNormaliser([False, False, False])
    normaliser.fit(torch.tensor([[NAN, 0.0, 7.0], [NAN, 0.0, 7.0]]))
    assert torch.isfinite(normaliser(torch.tensor([[1.0, 1.0, 1.0], [NAN, 0.0, 7.0], [1e38, -1e38, 0.0]]))).all()


def test_the_wildest_outlier_stays_within_ten_deviations(fitted: FeatureNormaliser) -> None:
    columns = fitted(torch.tensor([[3e38, 1e-40], [-3e38, 3e38]]))
    assert columns.abs().max() == 10


def test_a_double_too_large_for_float32_has_no_value(fitted: FeatureNormaliser) -> None:
    result = fitted(torch.tensor([[1e300, 0.1]], dtype=torch.float64))
    assert result.dtype == torch.float32
    assert torch.equal(result, fitted(torch.tensor([[NAN, 0.1]])))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    arrays.arrays(np.float64, (4, 2), elements=st.floats(allow_nan=True, allow_infinity=True)),
    arrays.arrays(np.float64, (3, 2), elements=st.floats(allow_nan=True, allow_infinity=True)),
)
def test_any_fit_and_any_value_give_finite_numbers(fit: np.ndarray, values: np.ndarray) -> None:
    normaliser = FeatureNormaliser([False, True])
    with np.errstate(all="ignore"):
        normaliser.fit(torch.from_numpy(fit))
    result = normaliser(torch.from_numpy(values))
    assert result.shape == (3, normaliser.width)
    assert torch.isfinite(result).all()


def test_sky_and_noise_are_those_of_each_channel() -> None:
    rng = np.random.default_rng(0)
    stamps = rng.normal([[[[100.0]], [[-5.0]]]], [[[[10.0]], [[0.5]]]], size=(50, 2, 20, 20))
    normaliser = StampNormaliser(2)
    normaliser.fit(stamps)
    assert normaliser.sky.flatten().tolist() == pytest.approx([100.0, -5.0], rel=0.01)
    assert normaliser.noise.flatten().tolist() == pytest.approx([10.0, 0.5], rel=0.03)
    centre = normaliser(torch.tensor([100.0, -5.0]).reshape(1, 2, 1, 1))
    assert centre.flatten().tolist() == pytest.approx([0.0, 0.0], abs=0.05)


def test_stamps_of_one_grey_stay_finite() -> None:
    normaliser = StampNormaliser(1)
    normaliser.fit(np.full((3, 1, 4, 4), 7, dtype=np.uint8))
    assert torch.isfinite(normaliser(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8))).all()


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 5000])
def test_sky_and_noise_need_only_the_chosen_stamps(count: int) -> None:
    rng = np.random.default_rng(0)
    stamps = rng.integers(0, 256, size=(count, 1, 2, 2), dtype=np.uint8)
    whole, part = StampNormaliser(1), StampNormaliser(1)
    whole.fit(stamps)
    chosen = stamps_to_fit(count)
    assert 1 <= len(chosen) <= 1024
    part.fit(stamps[chosen].astype(np.float32))
    assert torch.equal(whole.sky, part.sky)
    assert torch.equal(whole.noise, part.noise)


def test_the_stretch_is_asinh_with_its_gradient_and_for_any_pixel() -> None:
    normaliser = StampNormaliser(1)
    normaliser.sky.fill_(7.0)
    normaliser.noise.fill_(3.0)
    values = [7.0, 7.001, 6.9, 0.0, -40.0, 255.0, 1e9, 3e38, -3e38, math.inf, -math.inf, math.nan]
    pixels = torch.tensor(values).reshape(1, 1, 3, 4)
    expected = torch.asinh((pixels.double() - 7) / 3).float()
    torch.testing.assert_close(normaliser(pixels), expected, atol=5e-7, rtol=5e-7, equal_nan=True)
    torch.testing.assert_close(normaliser(pixels.requires_grad_()), expected, atol=5e-7, rtol=5e-7, equal_nan=True)
    (gradient,) = torch.autograd.grad(normaliser(pixels)[..., 0, 0].sum(), pixels)
    assert gradient[..., 0, 0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_noise_of_a_few_bright_pixels_on_an_empty_sky_is_found_in_any_unit(size: float) -> None:
    stamps = np.zeros((1, 1, 10, 10), dtype=np.float32)
    stamps[..., 0, 0] = size
    normaliser = StampNormaliser(1)
    normaliser.fit(stamps)
    assert float(normaliser.noise) == pytest.approx(size * math.sqrt(0.01 * 0.99))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_a_mask_means_the_same_whatever_share_of_the_pixels_is_masked(share: float) -> None:
    rng = np.random.default_rng(0)
    stamps = rng.normal(100, 10, (50, 2, 8, 8)).astype(np.float32)
    stamps[:, 1] = rng.random((50, 8, 8)) < share
    alone, both = StampNormaliser(1), StampNormaliser(2, mask_channel=True)
    alone.fit(stamps[:, :1])
    both.fit(stamps)
    found = both(torch.from_numpy(stamps))
    assert torch.equal(found[:, :1], alone(torch.from_numpy(stamps[:, :1])))
    mask = torch.tensor([0.0, 0.5, 1.0]).expand(1, 2, 1, 3)
    assert both(mask)[0, 1, 0].tolist() == pytest.approx([0, math.asinh(0.5), math.asinh(1)])
