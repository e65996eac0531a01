import numpy as np
import pytest

from spacewarps.survey.images import StampError
from spacewarps.survey.pixels import crop, fill_masked, pad
from tests.complaints import complaint


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("old", range(1, 9))
def test_the_pixel_at_the_centre_stays_there(old: int, size: int) -> None:
    stamp = np.zeros((2, old, 6), np.float32)
    stamp[:, old // 2, 3] = 1
    fitted = pad(crop(stamp, size, size), size, size)
    assert fitted.shape == (2, size, size)
    assert np.argwhere(fitted == 1).tolist() == [[0, size // 2, size // 2], [1, size // 2, size // 2]]


def test_what_is_padded_is_the_median_of_its_channel() -> None:
    stamp = np.array([[[1, 2, 9]], [[4, 4, 5]]], np.uint8)
    assert pad(stamp, 3, 3).tolist() == [[[2] * 3, [1, 2, 9], [2] * 3], [[4] * 3, [4, 4, 5], [4] * 3]]


def test_masked_pixels_take_the_median_of_the_others_in_their_channel_and_are_counted() -> None:
    stamp = np.array([[[1, 2], [9, np.nan]], [[np.inf, 7], [7, -np.inf]]], np.float32)
    before = stamp.copy()
    filled, masked = fill_masked(stamp)
    assert filled.tolist() == [[[1, 2], [9, 2]], [[7, 7], [7, 7]]]
    assert masked == 3
    assert np.array_equal(stamp, before, equal_nan=True)
    stamp[1, 0, 1] = np.nan
    assert complaint(StampError, fill_masked, stamp) == "stamp of which more than 50% is masked"


def test_a_stamp_without_masked_pixels_is_the_same_array() -> None:
    for stamp in (np.ones((1, 2, 2), np.float32), np.ones((1, 2, 2), np.uint8)):
        assert fill_masked(stamp)[0] is stamp
