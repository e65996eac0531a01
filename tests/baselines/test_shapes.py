import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from spacewarps.baselines.shapes import MEASURES, MEASURES_OF_A_CHANNEL, measure
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.survey.samples import Samples

SIDE = 61


def measured(*images: NDArray[Any]) -> list[dict[str, float]]:
    stamps = np.stack(images)
    stamps = stamps[:, None] if stamps.ndim == 3 else stamps
    rows = measure(Samples(stamps, pd.DataFrame(index=range(len(stamps)))))
    return [dict(zip(MEASURES, row, strict=False)) for row in rows]


def gaussian(sigma: float, ratio: float = 1.0, sky: float = 10.0, shift: float = 0.0) -> NDArray[np.float64]:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    image: NDArray[np.float64] = sky + 100 * np.exp(-0.5 * (((x - shift) / sigma) ** 2 + (y / (sigma * ratio)) ** 2))
    return image


def test_a_gaussian_has_the_shape_it_was_made_with() -> None:
    (found,) = measured(gaussian(4.0, ratio=0.5))
    assert found["background"] == pytest.approx(10, abs=0.01)
    assert found["peak"] == pytest.approx(100, rel=1e-3)
    assert found["flux"] == pytest.approx(2 * np.pi * 100 * 4.0 * 2.0, rel=0.01)
    assert found["semimajor_sigma"] == pytest.approx(4.0, rel=0.02)
    assert found["ellipticity"] == pytest.approx(0.5, abs=0.01)
    assert found["asymmetry"] == pytest.approx(0, abs=1e-3)


def test_the_concentration_of_a_round_gaussian_is_that_of_its_radii() -> None:
    (found,) = measured(gaussian(4.0))
    # r(share) = sigma sqrt(-2 ln(1 - share)).
    expected = 5 * np.log10(np.sqrt(np.log(0.2) / np.log(0.8)))
    assert found["concentration"] == pytest.approx(expected, rel=0.03)


def test_what_lies_off_the_centre_is_asymmetric() -> None:
    centred, shifted = measured(gaussian(3.0), gaussian(3.0, shift=8.0))
    assert centred["asymmetry"] < 0.01 < 0.5 < shifted["asymmetry"] <= 1


def test_light_in_one_pixel_is_less_equal_than_light_everywhere() -> None:
    pointed, flat = gaussian(4.0), gaussian(15.0)
    pointed[30, 30] = 1e6
    found, even = measured(pointed, flat)
    assert found["gini"] > 0.9 > 0.7 > even["gini"]


@pytest.mark.parametrize("stamp", [np.zeros((9, 9)), np.full((9, 9), np.nan), np.full((1, 1), 3.0)])
def test_a_stamp_without_a_source_has_no_shape_and_no_warning(stamp: NDArray[np.float64]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = measured(stamp)
    assert np.isnan(found["concentration"])


def test_a_mask_is_not_measured() -> None:
    stamps = np.stack([gaussian(4.0), np.ones((SIDE, SIDE))])[None]
    table = pd.DataFrame(index=range(1))
    found = measure(Samples(stamps, table, mask_channel=True))
    assert np.array_equal(found, measure(Samples(stamps[:, :1], table)), equal_nan=True)


def test_each_channel_has_its_brightness() -> None:
    stamps = np.stack([gaussian(4.0), 2 * gaussian(4.0)])[None]
    (row,) = measure(Samples(stamps, pd.DataFrame(index=range(1))))
    assert len(row) == len(MEASURES) + 2 * len(MEASURES_OF_A_CHANNEL)
    first, _, second, _ = row[len(MEASURES) :]
    assert second == pytest.approx(2 * first, rel=1e-4)


def test_the_last_bits_of_a_stamp_change_no_measurement() -> None:
    stamp = gaussian(4.0, ratio=0.7, shift=1.3)
    one, other = measured(stamp, stamp * (1 + 1e-14))
    assert one == other


def test_shapes_tell_the_classes_of_a_survey_apart(draw_survey: Callable[..., PreparedSurvey]) -> None:
    data = Space_Galaxi(draw_survey(sizes={"train": 60}))
    sizes = measure(data)[:, MEASURES.index("semimajor_sigma")]
    of_class = [np.nanmedian(sizes[data.labels.numpy() == label]) for label in range(len(data.classes))]
    assert of_class == sorted(of_class)
