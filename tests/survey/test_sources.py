from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacewarps.survey.sources import group_sources

ARCSEC = 1 / 3600


def group(ra: list[float], dec: list[float], radius: float = 2.0, digests: list[str] | None = None) -> list[int]:
    own = [str(row) for row in range(len(ra))]
    return [int(source) for source in group_sources(np.array(ra), np.array(dec), radius, digests or own)]


def test_rows_within_the_radius_are_one_source_and_others_are_not() -> None:
    assert group([10, 10, 10, 11], [0, 1.9 * ARCSEC, 4.1 * ARCSEC, 0]) == [0, 0, 1, 2]


def test_the_radius_is_an_angle_on_the_sky_not_a_difference_in_right_ascension() -> None:
    assert group([10, 10 + 3 * ARCSEC], [60, 60]) == [0, 0]
    assert group([10, 10 + 3 * ARCSEC], [0, 0]) == [0, 1]


def test_a_chain_of_near_rows_is_one_source_whatever_the_order() -> None:
    assert group([10] * 4, [3 * ARCSEC, 0, 4.5 * ARCSEC, 1.5 * ARCSEC]) == [0, 0, 0, 0]


def test_rows_on_both_sides_of_right_ascension_zero_are_one_source() -> None:
    assert group([0.0001, 359.9999, 360, 0, -0.0001, 180], [0] * 6) == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_rows_at_a_pole_are_one_source_whatever_their_right_ascension(pole: float) -> None:
    assert group([0, 90, 180, 270, 0], [pole, pole, pole * (1 - 1e-6), pole, 0]) == [0, 0, 0, 0, 1]


def test_rows_with_the_same_picture_are_one_source_wherever_they_are() -> None:
    assert group([10, 200, 30], [0, 0, 0], digests=["x", "y", "x"]) == [0, 1, 0]


def test_a_radius_of_zero_leaves_only_the_pictures() -> None:
    assert group([10, 10, 10], [0, 0, 0], radius=0, digests=["x", "y", "x"]) == [0, 1, 0]


def test_without_positions_only_the_pictures_count() -> None:
    assert group([np.nan] * 3, [np.nan] * 3, digests=["x", "y", "x"]) == [0, 1, 0]


def test_a_single_row_is_a_source() -> None:
    assert group([10], [0]) == [0]


def test_many_rows_at_one_place_do_not_pair_up_all_with_all() -> None:
    rows = 30_000
    sources = group_sources(np.zeros(rows), np.zeros(rows), 2.0, [str(row) for row in range(rows)])
    assert sources.tolist() == [0] * rows


def brute_force(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.bool_]:
    east, north = np.radians(ra), np.radians(dec)
    xyz = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)
    chord = np.linalg.norm(xyz[:, None] - xyz, axis=-1)
    linked: npt.NDArray[np.bool_] = 2 * np.arcsin(chord / 2) <= np.radians(radius / 3600)
    for _ in range(len(ra)):
        linked = (linked.astype(int) @ linked.astype(int)) > 0
    return linked


# Steps of 1.3 arcsec, so that no pair lies on the radius itself.
PLACES = st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(places=PLACES, centre=st.sampled_from([0.0, 60.0, -89.99]), order=st.randoms(use_true_random=False))
def test_grouping_is_transitive_and_independent_of_the_order_of_rows(
    places: list[tuple[int, int]], centre: float, order: Random
) -> None:
    ra = np.array([1.3 * ARCSEC * east / np.cos(np.radians(centre)) % 360 for east, _ in places])
    dec = np.array([centre + 1.3 * ARCSEC * north for _, north in places])
    sources = np.array(group(ra.tolist(), dec.tolist()))
    assert ((sources[:, None] == sources) == brute_force(ra, dec, 2.0)).all()

    shuffled = list(range(len(places)))
    order.shuffle(shuffled)
    again = np.array(group(ra[shuffled].tolist(), dec[shuffled].tolist()))
    assert ((again[:, None] == again) == (sources[:, None] == sources)[np.ix_(shuffled, shuffled)]).all()
    assert again[np.sort(np.unique(again, return_index=True)[1])].tolist() == list(range(again.max() + 1))
