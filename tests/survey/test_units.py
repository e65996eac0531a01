import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits, votable
from astropy.table import Table

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import Columns
from tests.complaints import complaint
from tests.fuzz.files import in_arrow

ROWS: dict[str, Any] = {
    "id": ["a", "b"],
    "class": ["STAR", "QSO"],
    "ra": np.array([1.0, 0.5]),
    "dec": np.array([-60.0, 30.0]),
    "mag": np.array([20.0, 21.0]),
    "unread": np.array([1.0, 2.0]),
}
Units = dict[str, str]


def astropy_table(units: Units) -> Table:
    table = Table(ROWS)
    for name, unit in units.items():
        table[name].unit = u.Unit(unit, parse_strict="silent")
    return table


def in_fits(units: Units) -> bytes:
    hdu = fits.BinTableHDU(Table(ROWS))
    for name, unit in units.items():
        hdu.columns[name].unit = unit
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    return file.getvalue()


def in_votable(units: Units) -> bytes:
    file = io.BytesIO()
    votable.from_table(astropy_table(units)).to_xml(file)
    return file.getvalue()


def in_ecsv(units: Units, delimiter: str = " ") -> bytes:
    file = io.StringIO()
    table = astropy_table(units)
    table.meta["mine"] = {"unit": "furlong"}
    table.write(file, format="ascii.ecsv", delimiter=delimiter)
    return file.getvalue().encode()


def in_parquet_of_astropy(units: Units) -> bytes:
    table = pa.table(ROWS)
    described = [{"name": name, **({"unit": units[name]} if name in units else {})} for name in ROWS]
    file = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({"table_meta_yaml": json.dumps({"datatype": described, "meta": {}})}), file
    )
    return file.getvalue()


def with_fields(units: Units) -> pa.Table:
    table = pa.table(ROWS)
    return table.cast(pa.schema([field.with_metadata({"unit": units.get(field.name, "")}) for field in table.schema]))


def in_parquet(units: Units) -> bytes:
    file = io.BytesIO()
    pq.write_table(with_fields(units), file)
    return file.getvalue()


FORMATS: dict[str, Callable[[Units], bytes]] = {
    "c.fits": in_fits,
    "c.vot": in_votable,
    "c.ecsv": in_ecsv,
    "commas.ecsv": lambda units: in_ecsv(units, ","),
    "c.parquet": in_parquet,
    "astropy.parquet": in_parquet_of_astropy,
    "c.arrow": lambda units: in_arrow(with_fields(units)),
}


def read(path: Path, features: tuple[str, ...] = ("mag",)) -> tuple[list[list[Any]], Audit]:
    audit = Audit()
    rows = read_catalogue(path, Columns(), features, audit, missing_codes={}, max_bad_fraction=1.0)
    return rows[["id", "ra", "dec"]].to_numpy().tolist(), audit


@pytest.mark.parametrize("name", FORMATS)
def test_positions_in_other_angles_become_degrees_and_units_of_features_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name]({"ra": "rad", "dec": "arcmin", "mag": "mag", "unread": "m"}))
    rows, audit = read(tmp_path / name)
    assert rows == [["a", np.rad2deg(1.0), -1.0], ["b", np.rad2deg(0.5), 0.5]]
    assert audit.notes[-2:] == [
        f"positions in rad, which were turned into degrees: 'ra' in '{name}'",
        f"positions in arcmin, which were turned into degrees: 'dec' in '{name}'",
    ]
    assert audit.details["units"] == {"mag": "mag"}


@pytest.mark.parametrize("name", FORMATS)
def test_degrees_and_columns_without_a_unit_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    for units in ({"ra": "deg", "dec": "deg"}, {}):
        (tmp_path / name).write_bytes(FORMATS[name](units))
        rows, audit = read(tmp_path / name)
        assert rows == [["a", 1.0, -60.0], ["b", 0.5, 30.0]]
        assert not any("positions" in note for note in audit.notes)
        assert "units" not in audit.details


@pytest.mark.parametrize("unit", ["degrees", "DEG", "deg (J2000)", "[deg]", "Degree ICRS", "decimal degrees"])
def test_degrees_are_known_as_catalogues_write_them(tmp_path: Path, unit: str) -> None:
    (tmp_path / "c.fits").write_bytes(in_fits({"ra": unit, "dec": unit}))
    assert read(tmp_path)[0] == [["a", 1.0, -60.0], ["b", 0.5, 30.0]]


def test_an_hour_angle_is_fifteen_degrees_and_chunks_may_differ(tmp_path: Path) -> None:
    (tmp_path / "1.fits").write_bytes(in_fits({"ra": "hourangle", "dec": "deg"}))
    (tmp_path / "2.csv").write_text("id,class,ra,dec,mag,unread\nc,STAR,15,-60,1,2\n")
    rows, _ = read(tmp_path)
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert [row[1] for row in rows] == pytest.approx([15.0, 7.5, 15.0])
    assert [row[2] for row in rows] == [-60.0, 30.0, -60.0]


@pytest.mark.parametrize("unit", ["pc", "h", '"h:m:s"', "deg/yr", "10**99999999", "rad" * 30])
def test_a_position_in_what_is_no_angle_is_refused(tmp_path: Path, unit: str) -> None:
    (tmp_path / "c.parquet").write_bytes(in_parquet({"dec": unit}))
    told = complaint(SurveyError, read, tmp_path)
    assert told.startswith(f"c.parquet: the column 'dec' for positions has the unit {unit[:40]!r}"[:-1])
    assert told.endswith("which is none of deg, rad, hourangle, arcmin, arcsec or mas; write it in degrees")


def test_what_is_no_number_stays_and_is_told_as_ever(tmp_path: Path) -> None:
    text = in_ecsv({"dec": "rad"}).decode().replace("a STAR 1.0", "a STAR 01:02:03").replace("b QSO 0.5", 'b QSO ""')
    (tmp_path / "c.ecsv").write_text(text.replace("{name: ra, datatype", "{name: ra, unit: hourangle, datatype"))
    found, audit = read(tmp_path)
    assert found == []
    assert set(audit.left_out) == {
        "position in hours, minutes or seconds instead of degrees, such as '01:02:03'",
        "no usable position",
    }


def test_a_feature_of_two_units_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.fits").write_bytes(in_fits({"mag": "mag"}))
    (tmp_path / "2.vot").write_bytes(in_votable({"mag": "mmag"}))
    (tmp_path / "3.fits").write_bytes(in_fits({}))
    assert complaint(SurveyError, read, tmp_path) == (
        "'1.fits', '2.vot': the feature 'mag' has several units, 'mag', 'mmag'; write it in one"
    )
    assert read(tmp_path, ())[1].details.get("units") is None


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ("# datatype: [", "describes its columns in YAML that is damaged; mend or remove that"),
        ("# datatype: " + "[" * 100_000, "describes its columns in YAML that is damaged; mend or remove that"),
        ("# " + "x" * 300_000, "describes its columns in more than 262,144 characters; remove that"),
    ],
)
def test_a_description_that_cannot_be_read_is_refused(tmp_path: Path, description: str, told: str) -> None:
    path = tmp_path / "c.ecsv"
    path.write_text(f"# %ECSV 1.0\n{description}\nid,class,ra,dec,mag\na,STAR,1,2,3\n")
    assert complaint(SurveyError, read, path) == f"{path}: {told}"
    table = pa.table(ROWS).replace_schema_metadata({"table_meta_yaml": description.replace("# ", "")})
    pq.write_table(table, tmp_path / "c.parquet")
    assert complaint(SurveyError, read, tmp_path / "c.parquet") == f"{tmp_path / 'c.parquet'}: {told}"
