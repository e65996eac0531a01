import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from spacewarps.errors import SurveyError
from spacewarps.settings import SettingsError
from spacewarps.survey.centred_stamps import CentredStamp
from spacewarps.survey.columns import Columns
from spacewarps.survey.images import StampError
from spacewarps.survey.settings import StampSettings, SurveySettings
from tests.complaints import complaint
from tests.survey.delivery import Delivery
from tests.survey.sky import gradient, image, position_of, world
from tests.survey.stamp_files import in_fits, in_npy

SIDE = 40
HEADER = world(SIDE)
SKY = gradient(SIDE)
HOW = StampSettings(stamp_centre="position", stamp_size=8)
SAMPLE = os.environ.get("SPACEWARPS_SAMPLE")
FIRST = Path(SAMPLE).parent / "first" if SAMPLE else None


@pytest.fixture
def off_centre(delivery: Delivery) -> Delivery:
    """Sources that lie somewhere on stamps of 40 pixels, one of them near the edge."""
    rng = np.random.default_rng(0)
    for number, row in enumerate(delivery.rows):
        (delivery.images / f"{row['id']}.png").unlink()
        header = world(SIDE, 10.0 + number)
        place = (2, 20) if number == 4 else rng.integers(8, 30, 2)
        ra, dec = position_of(header, *(float(at) for at in place))
        row |= {"ra": repr(ra), "dec": repr(dec), "place": f"{place[0]} {place[1]}"}
        (delivery.images / f"{row['id']}.fits").write_bytes(image(SKY + number, header))
    delivery.write()
    return delivery


def test_stamps_are_cropped_around_the_position_of_the_source(off_centre: Delivery) -> None:
    prepared = off_centre.prepare(stamp_size=8, stamp_centre="position")
    assert prepared.stamps.shape == (30, 1, 8, 8)
    places = {row["id"]: [int(at) for at in row["place"].split()] for row in off_centre.rows}
    numbers = {row["id"]: number for number, row in enumerate(off_centre.rows)}
    for stamp, key in zip(prepared.stamps, prepared.samples["id"], strict=True):
        row, column = places[key]
        assert stamp[0, 4, 4] == SKY[row, column] + numbers[key]
        if row != 2:
            assert (stamp[0] == SKY[row - 4 : row + 4, column - 4 : column + 4] + numbers[key]).all()
        else:
            assert (stamp[0, 2:] == SKY[0:6, 16:24] + numbers[key]).all()
            assert (stamp[0, :2] == np.median(stamp[0, 2:])).all()
    audit = json.loads((prepared.folder / "audit.json").read_text())
    key = off_centre.rows[4]["id"]
    assert audit["images"]["beyond_the_edge"] == {"stamps": 1, "pixels": 16, "pixels_of": {key: 16}}
    assert audit["images"]["off_the_middle"]["stamps"] >= 28
    assert audit["images"]["off_the_middle"]["most"] == 18
    assert audit["images"]["fitted"]["cropped"] == 30
    assert (
        "1 of 30 stamps reach beyond the edge of their image, by up to 16 pixels, which take the median of each channel"
    ) in prepared.audit.notes


def test_by_default_the_middle_is_the_centre_as_before(off_centre: Delivery) -> None:
    prepared = off_centre.prepare(stamp_size=8)
    assert (prepared.stamps[:, 0] - prepared.stamps[:, :1, 4, 4, None] == SKY[16:24, 16:24] - SKY[20, 20]).all()
    assert "beyond_the_edge" not in prepared.audit.details["images"]


def test_a_stamp_without_its_place_in_the_sky_is_left_out(off_centre: Delivery) -> None:
    keys = [row["id"] for row in off_centre.rows]
    (off_centre.images / f"{keys[0]}.fits").write_bytes(in_fits(SKY))
    (off_centre.images / f"{keys[1]}.fits").write_bytes(image(SKY, world(SIDE, 90.0)))
    (off_centre.images / f"{keys[2]}.fits").write_bytes(image(SKY, world(SIDE, A_ORDER=10**9)))
    (off_centre.images / f"{keys[3]}.fits").unlink()
    (off_centre.images / f"{keys[3]}.npy").write_bytes(in_npy(SKY))
    prepared = off_centre.prepare(stamp_size=8, stamp_centre="position")
    assert prepared.left_out == {
        "stamp with no WCS in its header": 1,
        "source outside of its own stamp": 1,
        "stamp with a WCS of A_ORDER = 1000000000, where orders end at 9": 1,
        "stamp without a WCS, as only FITS has; set `stamp_centre` to middle": 1,
    }


def test_bands_have_the_source_at_one_pixel(tmp_path: Path) -> None:
    names = ["x-g.fits", "x-r.fits"]
    (tmp_path / names[0]).write_bytes(image(SKY, HEADER))
    (tmp_path / names[1]).write_bytes(image(-SKY, HEADER))
    how = StampSettings(stamp_centre="position", stamp_size=8, stamp_bands=("g", "r"))
    place = CentredStamp(tuple(tmp_path / name for name in names), *position_of(HEADER, 15, 25))
    found = place.inspect(how)
    assert (found.beyond, found.moved) == (0, 5)
    stamp = place.decode(replace(found.shape, height=8, width=8), how)
    assert stamp.pixels[:, 4, 4].tolist() == [15025.0, -15025.0]
    (tmp_path / names[1]).write_bytes(image(-SKY, world(SIDE, 10.0002)))
    assert complaint(StampError, place.inspect, how) == "stamp whose bands have the source at different pixels"


@pytest.mark.parametrize("how", [{"stamp_centre": "position"}, {"cutouts": True}], ids=["position", "cutouts"])
def test_params_that_need_each_other_are_asked_for_together(how: Any) -> None:
    told = complaint(SettingsError, StampSettings, **how)
    assert "stamp_size must be a number of pixels where" in told
    told = complaint(SettingsError, SurveySettings, stamp_size=8, columns=Columns(ra=None, dec=None), **how)
    assert "columns.ra and columns.dec must be names of columns where" in told
    if "cutouts" in how:
        told = complaint(SettingsError, StampSettings, stamp_size=8, stamp_index="row", **how)
        assert "stamp_index is 'row', but cutouts is true" in told


def test_an_array_of_stamps_has_no_wcs(delivery: Delivery, tmp_path: Path) -> None:
    delivery.write()
    (tmp_path / "all.npy").write_bytes(in_npy(np.zeros((3, 8, 8), np.float32)))
    told = complaint(SurveyError, delivery.prepare, images=tmp_path / "all.npy", stamp_size=8, stamp_centre="position")
    assert told == f"{tmp_path}/all.npy: an array of stamps has no WCS; set `stamp_centre` to middle"


@pytest.mark.long
@pytest.mark.skipif(FIRST is None or not FIRST.exists(), reason="SPACEWARPS_SAMPLE has no sample `first` beside it")
def test_radio_galaxies_are_cropped_around_their_catalogued_positions(tmp_path: Path) -> None:
    assert FIRST is not None
    delivery = Delivery(tmp_path)
    prepared = delivery.prepare(
        catalog=FIRST / "sources.fits", images=FIRST / "images", features=("z",), stamp_size=64, stamp_centre="position"
    )
    assert len(prepared.stamps) == 197
    samples = prepared.samples
    for stamp, key, ra, dec in zip(prepared.stamps, samples["id"], samples["ra"], samples["dec"], strict=True):
        with fits.open(FIRST / "images" / f"{key}.fits.fz") as file:
            hdu = next(one for one in file if one.data is not None)
            pixels = hdu.data
            place = WCS(hdu.header).world_to_pixel(SkyCoord(float(ra), float(dec), unit="deg"))
        column, row = (int(np.floor(np.round(at, 5) + 0.5)) for at in place)
        own = pixels[row - 32 : row + 32, column - 32 : column + 32]
        known = np.isfinite(own)
        assert (stamp[0][known] == own[known]).all()
