from collections import Counter
from collections.abc import Mapping

import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.columns import Columns
from spacewarps.survey.inspection.roles import NoIdError, Roles, Wishes, choose_roles
from spacewarps.survey.inspection.tables import Column, Joined
from tests.complaints import complaint

ROWS = 60
IDS = {f"s{number}" for number in range(ROWS)}


def text(*values: str, missing: int = 0) -> Column:
    counts = Counter({value: ROWS // len(values) for value in values})
    return Column("", ROWS, missing, unreadable=ROWS - missing, first=values[0], values=counts)


def numbers(distinct: int = ROWS, *, whole: bool = False) -> Column:
    counts = Counter({str(number): ROWS // distinct for number in range(distinct)})
    return Column("", ROWS, finite=ROWS, whole=ROWS if whole else 0, first="1", values=counts)


def ids(known: int = ROWS, *, banded: bool = False) -> Column:
    found = text(*IDS)
    matches = set(sorted(IDS)[:known])
    found.matches, found.matches_with_band = (set(), matches) if banded else (matches, set())
    return found


def table(**columns: Column) -> Joined:
    for name, column in columns.items():
        column.name = name
    return Joined(["c.csv"], columns)


NO_WISHES = Wishes()
LABEL = {"class": text("A", "B")}


def choose(columns: Mapping[str, Column], wishes: Wishes = NO_WISHES, *more: Joined) -> Roles:
    return choose_roles([table(**columns), *more], wishes, "s0")


def test_the_column_that_names_most_stamps_is_the_id() -> None:
    assert choose({"name": ids(), "other": ids(3), **LABEL}).columns.id == "name"


def test_of_columns_that_name_as_many_the_usual_name_decides() -> None:
    assert choose({"galaxy": ids(), "objID": ids(), **LABEL}).columns.id == "objID"


def test_a_column_that_stands_in_every_table_is_the_id() -> None:
    other = table(iauname=ids(20), z=numbers())
    assert choose({"path": ids(), "iauname": ids(20), **LABEL}, NO_WISHES, other).columns.id == "iauname"


def test_ids_with_a_band_behind_them_are_told() -> None:
    assert choose({"id": ids(banded=True), **LABEL}).has_bands
    assert not choose({"id": ids(), **LABEL}).has_bands


def test_where_no_column_names_a_stamp_the_likely_one_is_shown() -> None:
    with pytest.raises(NoIdError, match=r"'ID' holds '1', and a stamp is called 's0'") as caught:
        choose({"ID": numbers(), **LABEL})
    assert caught.value.without_id == Columns(id="ID", label=None, ra=None, dec=None)


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"class": text("A", "B"), "type": text("C", "D")}, "class"),
        ({"type": numbers(3, whole=True), "survey": text("N", "S")}, "type"),
        ({"kind": text("A", "B"), "n": numbers(3, whole=True)}, "kind"),
        ({"lens": numbers(2, whole=True), "z": numbers(20)}, "lens"),
        ({"class": text("A"), "kind": text("A", "B")}, "kind"),
        ({"class": text(*sorted(IDS)), "kind": text("A", "B")}, "kind"),
    ],
)
def test_the_label_has_few_values_and_a_usual_name(columns: dict[str, Column], label: str) -> None:
    roles = choose({"id": ids(), **columns})
    assert roles.columns.label == label
    assert label not in [column.name for column in roles.other_labels]


def test_two_labels_of_equal_right_are_asked_about() -> None:
    message = complaint(SurveyError, choose, {"id": ids(), "kind": text("A", "B"), "sort": text("C", "D")})
    assert message == (
        "several columns could be the class: 'kind', with A (30), B (30); 'sort', with C (30), D (30); say which one: "
        "--label NAME"
    )
    assert (
        choose({"id": ids(), "kind": text("A", "B"), "sort": text("C", "D")}, Wishes(label="sort")).columns.label
        == "sort"
    )


@pytest.mark.parametrize(
    ("name", "column", "reason"),
    [
        ("objid", numbers(whole=True), "ids and numbers of rows"),
        ("thing_ID", numbers(whole=True), "ids and numbers of rows"),
        ("Unnamed: 0", numbers(whole=True), "ids and numbers of rows"),
        ("GLON", numbers(), "positions"),
        ("gaia_ra", numbers(), "positions"),
        ("e_mag", numbers(), "errors whose names do not end in _err"),
        ("flux_ivar", numbers(), "errors whose names do not end in _err"),
        ("w_err", numbers(), "errors of what is no feature"),
        ("MJD", numbers(), "of the observation, not of the source"),
        ("extinction_g", numbers(), "of the observation, not of the source"),
        ("is_clean", numbers(2, whole=True), "codes or flags"),
        ("constant", numbers(1), "the same in every row"),
        ("flux", Column("", ROWS, values=Counter(["inf", "-inf"])), "no value in any row"),
        ("source", numbers(), "a name that the project's own table has"),
    ],
)
def test_columns_that_measure_no_source_are_no_features(name: str, column: Column, reason: str) -> None:
    roles = choose({"id": ids(), **LABEL, "ra": numbers(), "dec": numbers(), name: column, "z": numbers()})
    assert roles.features == ["z"]
    assert roles.left_out == {reason: [name]}


@pytest.mark.parametrize(
    "name",
    ["z", "umag", "petroRad_r", "size_arcsec", "sersic_index", "W1 (AB)", "dust_mass", "solidity", "ellipticity"],
)
def test_measurements_are_features_and_so_are_their_errors(name: str) -> None:
    roles = choose({"id": ids(), **LABEL, name: numbers(), f"{name}_err": numbers()})
    assert roles.features == [name, f"{name}_err"]


def test_a_column_of_two_tables_is_no_feature() -> None:
    roles = choose({"id": ids(), **LABEL, "z": numbers()}, NO_WISHES, table(id=ids(), z=numbers(), mag=numbers()))
    assert (roles.features, roles.left_out) == (["mag"], {"in several tables under one name": ["z"]})


def test_what_the_user_names_is_taken() -> None:
    roles = choose({"id": ids(), "x": ids(2), **LABEL, "mjd": numbers()}, Wishes("x", "class", ("mjd",)))
    assert (roles.columns.id, roles.features, roles.left_out) == ("x", ["mjd"], {})
