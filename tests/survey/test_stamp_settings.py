import json

import numpy as np
import pytest

from spacewarps.errors import SurveyError
from spacewarps.settings import SettingsError
from spacewarps.survey.settings import StampSettings
from tests.survey.delivery import Delivery
from tests.survey.stamp_files import in_fits, in_npy
from tests.survey.test_tiff import tiff


@pytest.fixture
def sky(delivery: Delivery) -> Delivery:
    """A delivery whose stamps are FITS, float32, of 8 x 8 pixels."""
    for file in delivery.images.iterdir():
        file.unlink()
    for number, key in enumerate(keys_of(delivery)):
        write(delivery, f"{key}.fits", in_fits(stamp(number, 8, 8)))
    delivery.write()
    return delivery


def keys_of(delivery: Delivery) -> list[str]:
    return sorted(row["id"] for row in delivery.rows)


def stamp(seed: int, height: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 1e-4, (height, width)).astype(np.float32)


def write(delivery: Delivery, name: str, content: bytes) -> None:
    (delivery.images / name).write_bytes(content)


def test_stamps_of_fits_are_packed_as_they_are(sky: Delivery) -> None:
    prepared = sky.prepare()
    assert prepared.stamps.shape == (30, 1, 8, 8)
    assert (prepared.stamps[:, 0] == [stamp(number, 8, 8) for number in range(30)]).all()
    assert prepared.audit.notes == []


def test_masked_pixels_are_counted_and_take_the_sky_of_their_stamp(sky: Delivery) -> None:
    pixels = stamp(3, 8, 8)
    pixels[2, :5] = np.nan
    write(sky, f"{keys_of(sky)[3]}.fits", in_fits(pixels))
    pixels[:, 1:] = np.inf
    write(sky, f"{keys_of(sky)[4]}.fits", in_fits(pixels))
    prepared = sky.prepare()
    assert prepared.left_out == {"stamp of which more than 50% is masked": 1}
    others = stamp(3, 8, 8)
    others[2, :5] = np.nan
    assert (prepared.stamps[3, 0, 2, :5] == np.nanmedian(others)).all()
    assert prepared.audit.notes == [
        "masked or not finite: 5 pixels of 1 stamps, at most 5 in one; they take the median of the others in their "
        "channel"
    ]
    audit = json.loads((prepared.folder / "audit.json").read_text())
    assert audit["images"]["masked"] == {"stamps": 1, "pixels": 5, "pixels_of": {keys_of(sky)[3]: 5}}


def test_stamps_of_several_sizes_come_to_one_and_the_audit_says_so(sky: Delivery) -> None:
    small, wide = keys_of(sky)[:2]
    write(sky, f"{small}.fits", in_fits(stamp(50, 3, 4)))
    write(sky, f"{wide}.fits", in_fits(stamp(51, 8, 12)))
    assert sky.prepare().left_out == {
        "stamp of another size (4 x 3, where most have 8 x 8 pixels in width and height)": 1,
        "stamp of another size (12 x 8, where most have 8 x 8 pixels in width and height)": 1,
    }
    prepared = sky.prepare(stamp_size=6)
    assert prepared.left_out == {}
    assert prepared.stamps.shape == (30, 1, 6, 6)
    assert (prepared.stamps[2, 0] == stamp(2, 8, 8)[1:7, 1:7]).all()
    assert (prepared.stamps[1, 0] == stamp(51, 8, 12)[1:7, 3:9]).all()
    assert (prepared.stamps[0, 0, 2:5, 1:5] == stamp(50, 3, 4)).all()
    assert prepared.audit.details["images"]["fitted"] == {
        "stamp_size": 6,
        "cropped": 29,
        "padded": 1,
        "sizes": {"4 x 3": 1, "8 x 8": 28, "12 x 8": 1},
    }
    assert prepared.audit.notes == [
        "29 of 30 stamps were cropped to 6 pixels a side (`stamp_size`)",
        "1 of 30 stamps were padded with the median of each channel to 6 pixels a side (`stamp_size`)",
    ]


def test_bands_in_files_of_their_own_become_channels_in_the_order_of_the_params(delivery: Delivery) -> None:
    delivery.write()
    keys = keys_of(delivery)
    for file in delivery.images.iterdir():
        file.unlink()
    for number, key in enumerate(keys):
        write(delivery, f"{key}-g.fits", in_fits(stamp(number, 8, 8)))
        write(delivery, f"{key}_r.npy", in_npy(stamp(number + 100, 8, 8)))
    with pytest.raises(SurveyError, match=r"-g\.fits'; if each band has a file of its own, name .* in `stamp_bands`"):
        delivery.prepare()
    prepared = delivery.prepare(stamp_bands=["r", "g"])
    assert prepared.stamps.shape == (30, 2, 8, 8)
    assert (prepared.stamps[5] == [stamp(105, 8, 8), stamp(5, 8, 8)]).all()
    assert prepared.audit.details["images"] == {"files": 60, "without_row": {"count": 0, "names": []}}
    (delivery.images / f"{keys[0]}-g.fits").unlink()
    write(delivery, f"{keys[1]}-g.fits", in_fits(stamp(1, 8, 9)))
    write(delivery, f"{keys[2]}-g.npy", in_npy(stamp(1, 8, 8)))
    write(delivery, f"{keys[3]}-g.fits", in_fits(np.ones((2, 8, 8), np.float32)))
    assert delivery.prepare(stamp_bands=["r", "g"]).left_out == {
        "no stamp in the band g": 1,
        "stamp whose bands differ in size": 1,
        "several stamps": 1,
        "band of several channels, where each has a file of its own": 1,
    }


def test_a_survey_of_tiffs_has_their_pages_as_channels_or_one_of_them(delivery: Delivery) -> None:
    delivery.write()
    keys = keys_of(delivery)
    for file in delivery.images.iterdir():
        file.unlink()
    for number, key in enumerate(keys):
        write(delivery, f"{key}.tif", tiff(*[stamp(number + 100 * page, 8, 8) for page in range(3)]))
    write(delivery, f"{keys[0]}.tif", tiff(stamp(0, 8, 8), stamp(100, 8, 8)))
    write(delivery, f"{keys[1]}.tif", tiff(stamp(0, 8, 8), stamp(100, 8, 8), leads_to=0))
    prepared = delivery.prepare()
    assert prepared.left_out == {
        "stamp of 2 channels, where 3 are wanted": 1,
        "TIFF whose page 1 leads back to page 0; save it again": 1,
    }
    assert (prepared.stamps[3] == [stamp(5 + 100 * page, 8, 8) for page in range(3)]).all()
    prepared = delivery.prepare(stamp_extension=1)
    assert prepared.stamps.shape == (29, 1, 8, 8)
    assert (prepared.stamps[4, 0] == stamp(105, 8, 8)).all()


def test_settings_of_stamps_are_checked() -> None:
    for wrong in (
        {"stamp_size": 0},
        {"stamp_size": 4096},
        {"stamp_extension": -1},
        {"stamp_extension": ""},
        {"stamp_bands": ["g", "g"]},
        {"stamp_bands": ["../g"]},
    ):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            StampSettings(**wrong)
    assert StampSettings(stamp_extension="SCI", stamp_bands=("g", "r")).stamp_bands == ("g", "r")
