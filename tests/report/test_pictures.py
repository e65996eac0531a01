import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from spacewarps.report.pictures import bands_in_words, bands_shown, picture_of_stamp, pictures_of_saliency


def opened(address: str) -> Image.Image:
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, (0,)), (2, (1, 1, 0)), (3, (0, 1, 2)), (5, (4, 2, 0)), (40, (39, 20, 0))]
)
def test_any_number_of_channels_is_shown(channels: int, shown: tuple[int, ...]) -> None:
    assert bands_shown(channels) == shown
    stamp = np.random.default_rng(0).normal(size=(channels, 9, 12)).astype(np.float32)
    with opened(picture_of_stamp(stamp)) as image:
        assert (image.size, image.mode) == ((12, 9), "L" if channels == 1 else "RGB")
    assert "green" in bands_in_words(channels) or channels == 1


@pytest.mark.parametrize("stamp", [np.zeros((1, 8, 8), np.uint8), np.full((3, 8, 8), 1e30, np.float32)])
def test_a_stamp_without_contrast_is_black(stamp: NDArray[Any]) -> None:
    with opened(picture_of_stamp(stamp)) as image:
        assert not np.asarray(image).any()


def test_a_large_stamp_is_averaged_down() -> None:
    stamp = np.kron(np.arange(100).reshape(1, 10, 10), np.ones((1, 25, 25))).astype(np.float32)
    with opened(picture_of_stamp(stamp)) as image:
        assert max(image.size) <= 96
        assert np.asarray(image)[0, 0] < np.asarray(image)[-1, -1]


def test_a_map_has_few_levels_so_that_no_last_bit_of_a_gradient_shows() -> None:
    maps = np.abs(np.random.default_rng(0).normal(size=(1, 16, 16))).astype(np.float32)
    [first] = pictures_of_saliency(maps)
    [second] = pictures_of_saliency(maps * np.float32(1 + 3e-7))
    with opened(first) as image:
        assert len(np.unique(np.asarray(image))) <= 16
        assert np.asarray(image).max() == 255
    assert first == second


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_map_that_shows_nothing_is_black(value: float) -> None:
    [address] = pictures_of_saliency(np.full((1, 8, 8), value, dtype=np.float32))
    with opened(address) as image:
        assert not np.asarray(image).any()
