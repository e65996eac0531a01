import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from spacewarps.errors import SurveyError
from spacewarps.survey.images import StampError
from spacewarps.survey.large_images import Cutout, LargeImages
from spacewarps.survey.settings import StampSettings
from tests.complaints import complaint
from tests.survey.delivery import Delivery, Prepared
from tests.survey.sky import gradient, image, position_of, world
from tests.survey.stamp_files import in_fits

SIDE = 200
HEADER = world(SIDE)
SKY = gradient(SIDE)
HOW = StampSettings(cutouts=True, stamp_size=8)
LOSSLESS: dict[str, Any] = {"compression_type": "GZIP_2", "quantize_level": 0, "tile_shape": (17, 23)}
SIP: dict[str, Any] = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-4, "B_1_1": -3e-4}
SIP |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}


def cut(folder: Path, *places: tuple[float, float], how: StampSettings = HOW) -> list[Any]:
    """Return the pixels of the stamp at each position, or why there is none."""
    found = LargeImages(folder, how).find(*np.array(places, dtype=np.float64).reshape(-1, 2).T)
    return [one.inspect(how) and one._pixels(how)[0] if isinstance(one, Cutout) else str(one) for one in found]


@pytest.mark.parametrize("tiles", [{}, LOSSLESS, {"compression_type": "RICE_1", "quantize_level": 0}], ids=range(3))
@pytest.mark.parametrize("distorted", [False, True])
def test_the_pixel_of_a_position_is_in_the_middle_of_its_stamp(tmp_path: Path, tiles: Any, distorted: bool) -> None:
    header = world(SIDE, **SIP) if distorted else HEADER
    pixels = SKY.astype(np.int32) if tiles.get("compression_type") == "RICE_1" else SKY
    (tmp_path / "a.fits").write_bytes(image(pixels, header, **tiles))
    places = [(100, 100), (30.4, 61.6), (190, 12.49), (7.51, 180)]
    stamps = cut(tmp_path, *(position_of(header, *place) for place in places))
    for (row, column), stamp in zip([(100, 100), (30, 62), (190, 12), (8, 180)], stamps, strict=True):
        assert stamp.shape == (1, 8, 8)
        assert (stamp[0] == SKY[row - 4 : row + 4, column - 4 : column + 4]).all()
        assert stamp[0, 4, 4] == row * 1000 + column


def test_a_star_at_a_known_position_lands_on_the_middle_pixel(tmp_path: Path) -> None:
    galsim = pytest.importorskip("galsim")
    sky = galsim.ImageF(SIDE, SIDE)
    place = galsim.CelestialCoord(10.002 * galsim.degrees, 20.003 * galsim.degrees)
    sky.wcs = galsim.FitsWCS(header=galsim.FitsHeader(dict(HEADER.items())))
    at = sky.wcs.toImage(place)
    sky[round(at.x), round(at.y)] = 7.0
    (tmp_path / "a.fits").write_bytes(image(sky.array, HEADER))
    (stamp,) = cut(tmp_path, (10.002, 20.003))
    assert np.argwhere(stamp[0]).tolist() == [[4, 4]]
    assert stamp[0, 4, 4] == 7


def test_frames_other_than_icrs_are_told_apart(tmp_path: Path) -> None:
    header = world(SIDE, 120.0, 30.0, CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN")
    (tmp_path / "a.fits").write_bytes(image(SKY, header))
    from astropy.coordinates import SkyCoord

    place = SkyCoord(*position_of(header, 50, 60), unit="deg", frame="galactic").icrs
    (stamp,) = cut(tmp_path, (place.ra.deg, place.dec.deg))
    assert stamp[0, 4, 4] == 50060


def test_declination_may_be_the_first_axis(tmp_path: Path) -> None:
    header = world(SIDE)
    for name in ("CTYPE", "CRVAL", "CDELT"):
        header[f"{name}1"], header[f"{name}2"] = header[f"{name}2"], header[f"{name}1"]
    (tmp_path / "a.fits").write_bytes(image(SKY, header))
    (stamp,) = cut(tmp_path, position_of(HEADER, 50, 60))
    assert stamp[0, 4, 4] == 60050


def test_what_is_beyond_the_edge_is_masked_and_what_is_outside_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(image(SKY, HEADER))
    found = cut(
        tmp_path,
        position_of(HEADER, 1, 100),
        position_of(HEADER, 199.4, 199.4),
        position_of(HEADER, 199.6, 100),
        position_of(HEADER, -0.6, 100),
        (190.0, -20.0),
        (10.0, 89.0),
    )
    assert np.isnan(found[0][0]).sum(axis=1).tolist() == [8, 8, 8, 0, 0, 0, 0, 0]
    assert (found[0][0, 3:] == SKY[0:5, 96:104]).all()
    assert np.isfinite(found[1]).sum() == 25
    assert found[2:] == ["source outside of all images"] * 4


def test_of_several_images_the_one_with_the_furthest_edge_has_a_source(tmp_path: Path) -> None:
    headers = {"a": world(SIDE), "b": world(SIDE, 10.008), "c": world(SIDE, 10.004, 20.002)}
    for number, (name, header) in enumerate(headers.items()):
        (tmp_path / f"{name}.fits").write_bytes(image(np.full((SIDE, SIDE), number, np.float32), header))
    places = [position_of(headers["a"], 100, column) for column in (180, 100, 60, 20)]
    found = [float(stamp[0, 4, 4]) for stamp in cut(tmp_path, *places)]
    assert found == [0, 0, 2, 1]
    again = LargeImages(tmp_path, HOW)
    (tmp_path / "0.fits").write_bytes(image(np.full((SIDE, SIDE), 9, np.float32), headers["a"]))
    assert again.ties == 0
    twice = LargeImages(tmp_path, HOW)
    found_in = twice.find(*np.array(places).T)
    assert [one.image.name for one in found_in if isinstance(one, Cutout)] == ["0.fits", "0.fits", "c.fits", "b.fits"]
    assert twice.ties >= 2


def test_bands_are_files_of_their_own_each_with_its_own_place_in_the_sky(tmp_path: Path) -> None:
    shifted = world(SIDE, 10.0, 20.0005)
    (tmp_path / "field-g.fits").write_bytes(image(SKY, HEADER))
    (tmp_path / "field_r.fits.fz").write_bytes(image(-SKY, shifted, **LOSSLESS))
    (tmp_path / "field-z.fits").write_bytes(image(SKY, HEADER))
    how = StampSettings(cutouts=True, stamp_size=8, stamp_bands=("r", "g"))
    images = LargeImages(tmp_path, how)
    assert (images.files, images.others) == (2, 1)
    (stamp,) = cut(tmp_path, position_of(HEADER, 50, 60), how=how)
    assert stamp[:, 4, 4].tolist() == [-45060.0, 50060.0]
    (tmp_path / "other-g.fits").write_bytes(image(SKY, HEADER))
    assert complaint(SurveyError, LargeImages, tmp_path, how) == (
        f"{tmp_path}: 'other' has no image in the band r; add it, or remove its others"
    )


def test_planes_are_channels_and_integers_mean_what_the_header_says(tmp_path: Path) -> None:
    header = world(SIDE, BLANK=7, BSCALE=0.5, BZERO=3.0)
    numbers = np.full((2, SIDE, SIDE), 20, np.int16)
    numbers[1, 100, 100] = 7
    hdu = fits.PrimaryHDU(numbers)
    hdu.header.update(header)
    (tmp_path / "a.fits").write_bytes(in_fits(hdu))
    (stamp,) = cut(tmp_path, position_of(HEADER, 100, 100))
    assert stamp.shape == (2, 8, 8)
    assert np.argwhere(np.isnan(stamp)).tolist() == [[1, 4, 4]]
    assert set(stamp[np.isfinite(stamp)].tolist()) == {13.0}


@pytest.fixture
def on_the_sky(delivery: Delivery) -> Callable[..., Prepared]:
    """Prepares thirty sources on an image of gradients."""
    rng = np.random.default_rng(3)

    def prepare(**changes: Any) -> Prepared:
        for row, place in zip(delivery.rows, rng.permutation(30), strict=True):
            ra, dec = position_of(HEADER, 5 + 6 * place, 100 - 2 * place)
            row |= {"ra": repr(ra), "dec": repr(dec)}
        delivery.write()
        folder = delivery.folder / "sky"
        folder.mkdir(exist_ok=True)
        (folder / "a.fits").write_bytes(image(SKY, HEADER))
        return delivery.prepare(images=folder, cutouts=True, stamp_size=16, **changes)

    return prepare


def test_a_survey_is_cut_from_an_image_and_the_audit_says_how(on_the_sky: Callable[..., Prepared]) -> None:
    prepared = on_the_sky()
    assert prepared.stamps.shape == (30, 1, 16, 16)
    assert prepared.stamps.dtype == np.float32
    samples = prepared.samples
    for stamp, ra, dec in zip(prepared.stamps, samples["ra"], samples["dec"], strict=True):
        column, row = fits_place(float(ra), float(dec))
        assert stamp[0, 8, 8] == row * 1000 + column
    audit = json.loads((prepared.folder / "audit.json").read_text())
    assert audit["images"]["files"] == 1
    assert audit["images"]["cut_from"] == {"a.fits": 30}
    [beyond] = audit["images"]["beyond_the_edge"]["pixels_of"].values()
    assert audit["images"]["beyond_the_edge"]["pixels"] == audit["images"]["masked"]["pixels"] == beyond
    assert prepared.audit.notes[0] == (
        f"1 of 30 stamps reach beyond the edge of their image, by up to {beyond} pixels, which are masked"
    )


def fits_place(ra: float, dec: float) -> tuple[int, int]:
    from astropy.wcs import WCS

    column, row = WCS(HEADER).all_world2pix(ra, dec, 0)
    return round(float(column)), round(float(row))


def test_sources_on_nothing_are_left_out_and_counted(delivery: Delivery) -> None:
    sky = SKY.copy()
    sky[:60] = np.nan
    for number, row in enumerate(delivery.rows):
        ra, dec = position_of(HEADER, 10 + 6 * number, 100)
        row |= {"ra": repr(ra), "dec": repr(dec)}
    delivery.rows[-1] |= {"ra": "200.0", "dec": "20.0"}
    delivery.write()
    folder = delivery.folder / "sky"
    folder.mkdir()
    (folder / "a.fits").write_bytes(image(sky, HEADER))
    prepared = delivery.prepare(images=folder, cutouts=True, stamp_size=8, max_bad_fraction=0.5)
    assert prepared.left_out == {"source outside of all images": 1, "stamp of which more than 50% is masked": 9}
    for row in delivery.rows:
        row["ra"] = "200.0"
    delivery.write()
    told = complaint(SurveyError, delivery.prepare, images=folder, cutouts=True, stamp_size=8)
    assert told.startswith(f"{folder}: none of 30 positions lies on an image; check `columns.ra` and `columns.dec`")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"an error page", "FITS that was cut off"),
        (in_fits(SKY), "no WCS in its header"),
        (image(SKY, world(SIDE, A_ORDER=10**9, CTYPE1="RA---TAN-SIP")), "a WCS of A_ORDER = 1000000000, where orders"),
        (image(SKY, world(SIDE, CTYPE1="RA---XYZ", CTYPE2="DEC--XYZ")), "a WCS that cannot be read ("),
        (image(SKY, HEADER)[:-2880], "damaged stamp"),
        (
            image(np.zeros((70, 4, 4), np.float32), HEADER),
            "image of the axes [70, 4, 4], where it has two, or up to 64",
        ),
        (
            image(np.zeros((3000, 3000), np.float32), HEADER, compression_type="RICE_1", tile_shape=(3000, 3000)),
            "image in tiles of 3000 x 3000 pixels, of which each would be unpacked as a whole; compress it in smaller",
        ),
    ],
    ids=range(7),
)
def test_an_image_that_cannot_be_cut_from_is_refused_in_a_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.fits").write_bytes(content)
    line = complaint(SurveyError, LargeImages, tmp_path, HOW)
    assert line.startswith(f"{tmp_path}/a.fits: {told}")
    assert "\n" not in line


def test_a_tile_that_unpacks_to_more_than_a_tile_is_damaged(tmp_path: Path) -> None:
    zeros = np.zeros((2000, 2000), np.float32)
    content = image(zeros, HEADER, compression_type="GZIP_1", quantize_level=0, tile_shape=(2000, 2000))
    for name in ("ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2"):
        start = content.index(f"{name:<8}=".encode())
        content = content[:start] + f"{name:<8}= {200:>20}".encode().ljust(80) + content[start + 80 :]
    (tmp_path / "a.fits").write_bytes(content)
    [found] = LargeImages(tmp_path, HOW).find(np.array([10.0]), np.array([20.0]))
    assert isinstance(found, Cutout)
    assert complaint(StampError, found.inspect, HOW) == "damaged stamp"


def test_a_tile_that_claims_more_than_the_file_holds_is_damaged(tmp_path: Path) -> None:
    content = bytearray(image(SKY.astype(np.int32), HEADER, compression_type="RICE_1", tile_shape=(1, SIDE)))
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with fits.open(path, disable_image_compression=True) as file:
        start, width = file[1].fileinfo()["datLoc"], file[1].header["NAXIS1"]
    content[start + 100 * width : start + 100 * width + 4] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(content)
    at = [position_of(HEADER, row, 100) for row in (100, 150)]
    broken, sound = LargeImages(tmp_path, HOW).find(*np.array(at).T)
    assert isinstance(broken, Cutout)
    assert isinstance(sound, Cutout)
    tracemalloc.start()
    assert complaint(StampError, broken.inspect, HOW) == "damaged stamp"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6
    assert sound.inspect(HOW).beyond == 0


def test_an_image_is_never_held_as_a_whole(tmp_path: Path) -> None:
    side, header = 6000, world(6000)
    place = position_of(header, 4000, 2500)
    for tiles in ({}, {"compression_type": "RICE_1", "tile_shape": (1, side)}):
        path = tmp_path / "a.fits"
        path.write_bytes(image(np.full((side, side), 5, np.int16), header, **tiles))
        tracemalloc.start()
        [stamp] = cut(tmp_path, place)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (stamp == 5).all()
        assert peak < 5e6


def test_another_process_opens_the_image_itself(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(image(SKY, HEADER))
    [found] = LargeImages(tmp_path, HOW).find(np.array([10.0]), np.array([20.0]))
    assert isinstance(found, Cutout)
    assert pickle.loads(pickle.dumps(found)).inspect(HOW) == found.inspect(HOW)
