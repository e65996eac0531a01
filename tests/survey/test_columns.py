import pytest

from spacewarps.settings import SettingsError
from spacewarps.survey.columns import Columns, habitual, nearest, positions_among


@pytest.mark.parametrize(
    "names",
    [
        ("ra", "dec"),
        ("RA", "Dec"),
        ("RAJ2000", "DEJ2000"),
        ("_RAJ2000", "_DEJ2000"),
        ("RA_ICRS", "DE_ICRS"),
        ("ra_deg", "dec_deg"),
        ("RAdeg", "DEdeg"),
        ("RA (deg)", "Dec (deg)"),
        ("raMean", "decMean"),
        ("ra", "decl"),
        ("Right ascension", "Declination"),
        ("ALPHA_J2000", "DELTA_J2000"),
        ("ALPHAWIN_J2000", "DELTAWIN_J2000"),
        ("PLUG_RA", "PLUG_DEC"),
        ("RA_TARG", "DEC_TARG"),
        ("ls_ra", "ls_dec"),
    ],
)
def test_the_ways_to_name_a_position_are_known(names: tuple[str, str]) -> None:
    assert positions_among(["id", "e_RAJ2000", "dec_err", *names, "z"]) == names


@pytest.mark.parametrize(
    "names",
    [
        ("ra_err", "dec_err"),
        ("e_RAJ2000", "e_DEJ2000"),
        ("pmra", "pmdec"),
        ("pm_ra", "pm_dec"),
        ("rate", "decay"),
        ("radius", "depth"),
        ("alpha", "delta"),
        ("rank", "de"),
        ("ra", "id"),
    ],
)
def test_errors_motions_and_other_words_are_no_positions(names: tuple[str, str]) -> None:
    assert positions_among(names) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"ra": "ra", "dec": "ra"}, "must be different columns, but 'ra' stands for two"),
        ({"label": "id"}, "must be different columns, but 'id' stands for two"),
        ({"ra": None}, "must both be names, or both null .* got ra=None and dec='dec'"),
        ({"dec": None}, "must both be names, or both null"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_refused(names: dict[str, str | None], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Columns(**names)  # type: ignore[arg-type]


def test_a_column_in_another_case_or_nearly_of_that_name_is_the_nearest() -> None:
    assert nearest("id", ["Name", "ID"]) == "ID"
    assert nearest("z_err", ["z_er", "ra"]) == "z_er"
    assert nearest("class", ["ra", "dec"]) is None


@pytest.mark.parametrize(
    ("what", "name"),
    [
        *[
            ("id", name)
            for name in ("objID", "specObjID", "source_id", "OBJECT_ID", "DESIGNATION", "TARGETID", "Name", "recno")
        ],
        *[
            ("label", name)
            for name in ("CLASS", "spectype", "morph_class", "Label", "type", "objtype", "classification")
        ],
    ],
)
def test_the_ways_to_name_an_id_and_a_class_are_known(what: str, name: str) -> None:
    assert habitual(what, ["ra", "mag", "z", "width", "period", "flags", name]) == [name]
