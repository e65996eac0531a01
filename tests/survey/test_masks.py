from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from spacewarps.errors import SurveyError
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.images import StampError, StampShape
from spacewarps.survey.masks import mask_of, packed_shape
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamps import fitted
from tests.survey.delivery import Delivery
from tests.survey.stamp_files import in_fits

NAN = np.nan
CHANNEL = StampSettings(masks="channel")


def shape(stamp: NDArray[Any]) -> StampShape:
    channels, height, width = stamp.shape
    return StampShape(channels, height, width, str(stamp.dtype))


def test_the_mask_is_the_share_of_the_channels_that_nobody_measured() -> None:
    stamp = np.array([[[1, NAN, NAN, 2]], [[5, np.inf, 1, 2]], [[3, -np.inf, 1, 2]]], np.float32)
    assert mask_of(stamp).tolist() == [[[0, 1, np.float32(1 / 3), 0]]]
    assert mask_of(stamp).dtype == np.float32
    assert mask_of(np.zeros((3, 2, 2), np.uint8)).tolist() == [[[0, 0], [0, 0]]]


@given(
    arrays.arrays(np.float32, (3, 5, 6), elements=st.floats(-1e6, 1e6, width=32)),
    arrays.arrays(np.bool_, (3, 5, 6), elements=st.booleans()),
)
def test_a_stamp_is_filled_as_without_its_mask_which_is_exact(
    stamp: NDArray[np.float32], hidden: NDArray[np.bool_]
) -> None:
    delivered = np.where(hidden, np.float32(NAN), stamp)
    if hidden.mean(axis=(1, 2)).max() > 0.5:
        with pytest.raises(StampError, match="more than 50% is masked"):
            fitted(delivered, shape(stamp), CHANNEL)
        return
    alone, both = (fitted(delivered, shape(stamp), how) for how in (StampSettings(), CHANNEL))
    assert both.pixels.shape == packed_shape(shape(stamp), CHANNEL) == (4, 5, 6)
    assert (both.pixels[:3] == alone.pixels).all()
    assert (both.pixels[3] * 3 == hidden.sum(axis=0)).all()
    assert both.masked == alone.masked == hidden.sum()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("height", "width", "size"), [(4, 5, 8), (9, 4, 6), (9, 9, 6), (5, 5, 8)])
def test_what_lies_beyond_the_edge_is_masked(height: int, width: int, size: int, dtype: str) -> None:
    stamp = np.arange(2 * height * width).reshape(2, height, width).astype(dtype)
    how = StampSettings(masks="channel", stamp_size=size)
    wanted = StampShape(2, size, size, dtype)
    for centre in (None, (1, 2)):
        found = fitted(stamp, wanted, how, centre).pixels
        row, column = centre or (height // 2, width // 2)
        inside = np.zeros((size, size), bool)
        for y in range(size):
            for x in range(size):
                inside[y, x] = 0 <= y - size // 2 + row < height and 0 <= x - size // 2 + column < width
        assert found.dtype == dtype
        assert (found[2] == ~inside).all()


@pytest.fixture
def sky(delivery: Delivery) -> Delivery:
    """A delivery of FITS of two bands, the first of which has five masked pixels in every third stamp."""
    for file in delivery.images.iterdir():
        file.unlink()
    for number, key in enumerate(sorted(row["id"] for row in delivery.rows)):
        pixels = np.random.default_rng(number).normal(0, 1, (2, 8, 8)).astype(np.float32)
        if number % 3 == 0:
            pixels[0, 2, :5] = NAN
        (delivery.images / f"{key}.fits").write_bytes(in_fits(pixels))
    delivery.write()
    return delivery


def test_a_prepared_survey_says_that_its_last_channel_is_the_mask(sky: Delivery) -> None:
    filled, masked = sky.prepare(sky.folder / "filled"), sky.prepare(sky.folder / "masked", masks="channel")
    assert (masked.stamps[:, :2] == filled.stamps).all()
    assert masked.stamps.shape == (30, 3, 8, 8)
    expected = np.zeros((30, 8, 8))
    expected[::3, 2, :5] = 0.5
    assert (masked.stamps[:, 2] == expected).all()
    assert masked.audit.notes == [
        *filled.audit.notes,
        "the last of 3 channels is the mask (`masks`): the share of the others in which nobody measured a pixel",
    ]
    assert masked.audit.details["images"]["mask_channel"] == 2
    for prepared, mask_channel in ((filled, False), (masked, True)):
        survey = load_prepared_survey(prepared.folder)
        data = Space_Galaxi(survey, split="train")
        assert survey.mask_channel is data.mask_channel is mask_channel
        assert data.image_channels == 2
        assert data.stamp_shape == (2 + mask_channel, 8, 8)
    # Nothing that is written for `fill` says a word of it.
    assert not any(b"mask_channel" in content for content in filled.files().values())


def test_the_same_pixels_with_and_without_a_mask_are_other_data(sky: Delivery) -> None:
    survey = load_prepared_survey(sky.prepare(masks="channel").folder)
    data = Space_Galaxi(survey)
    before = data.fingerprint()
    data.mask_channel = False
    assert data.fingerprint() != before


def test_a_prepared_survey_of_one_channel_has_no_mask(delivery: Delivery) -> None:
    delivery.write()
    folder = delivery.prepare().folder
    text = (folder / "survey.json").read_text()
    (folder / "survey.json").write_text(text.replace("{", '{"mask_channel": true,', 1))
    with pytest.raises(SurveyError, match="should have a mask behind the channels of a stamp, but has one channel"):
        load_prepared_survey(folder)
