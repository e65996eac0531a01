import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image

from spacewarps.errors import SurveyError
from spacewarps.survey.inspection.stamp_names import StampNames, by_wavelength
from spacewarps.survey.inspection.tables import Column, Joined, inspect_tables
from spacewarps.survey.stamps import StampFolder
from tests.complaints import complaint


def names(folder: Path, *stems: str) -> StampNames:
    folder.mkdir(exist_ok=True)
    for stem in stems:
        Image.new("L", (4, 4)).save(folder / f"{stem}.png")
    return StampNames(StampFolder(folder))


def column(tmp_path: Path, *cells: str) -> Column:
    found = Column("x")
    found.add(cells, names(tmp_path / "images", "a1"))
    return found


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "", "-3", "4.0"], "whole numbers"),
        (["1", "2.5", "nan"], "numbers"),
        (["1e-3", "inf"], "numbers"),
        (["1"] * 39 + ["?"], "whole numbers"),
        (["1"] * 9 + ["?"], "text"),
        (["1,5", "2,5"], "text"),
        (["", "NA", "--"], "empty"),
    ],
)
def test_what_a_column_holds_is_told_from_its_cells(tmp_path: Path, cells: list[str], kind: str) -> None:
    assert column(tmp_path, *cells).kind == kind


def test_missing_cells_and_values_are_counted(tmp_path: Path) -> None:
    found = column(tmp_path, "a", " a ", "", "None", "b")
    assert (found.rows, found.missing, found.known, dict(found.values)) == (5, 2, 3, {"a": 2, "b": 1})


def test_what_is_infinite_is_no_value_of_a_feature(tmp_path: Path) -> None:
    assert column(tmp_path, "inf", "-inf", "1", "nan").finite == 1


@pytest.mark.parametrize("text", ["0,5", "<0.1", "1.2D-04", "0.1+-0.02"])
def test_numbers_with_something_beside_them_are_told(tmp_path: Path, text: str) -> None:
    assert column(tmp_path, text).looks_like_numbers


@pytest.mark.parametrize("text", ["12", "F3/F5V (30743)", "2019-01-02", "10:11:12", "J1011"])
def test_other_text_is_not_nearly_a_number(tmp_path: Path, text: str) -> None:
    assert not column(tmp_path, text).looks_like_numbers


def test_cells_that_name_stamps_are_found_with_and_without_a_band(tmp_path: Path) -> None:
    there = names(tmp_path / "images", "a_1-g", "a_1-r", "e\N{COMBINING ACUTE ACCENT}", "b.2_i")
    found = Column("x")
    found.add(["a_1", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a", "b.2"], there)
    assert found.matches == {"\N{LATIN SMALL LETTER E WITH ACUTE}"}
    assert found.matches_with_band == {"a_1", "a", "b", "b.2"} - {"b"}
    assert there.bands_of(["a_1"]) == (("g", "r"), [])


def test_a_band_of_few_stamps_is_none_of_the_survey(tmp_path: Path) -> None:
    there = names(tmp_path / "images", *(f"s{n}-{band}" for n in range(30) for band in "rg"), "s0-K", "s1-K")
    assert there.bands_of([f"s{n}" for n in range(30)]) == (("g", "r"), ["K"])


def test_bands_stand_in_the_order_of_their_waves() -> None:
    assert by_wavelength(["W1", "z", "Ks", "u", "J", "NUV", "F606W"]) == ["NUV", "u", "z", "J", "Ks", "W1", "F606W"]


def look(path: Path, tmp_path: Path, id_column: str | None = None) -> list[Joined]:
    return inspect_tables(path, id_column, names(tmp_path / "images", "a1"))


def test_chunks_of_one_table_are_counted_together(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "1.csv").write_text("id,z\na1,0.5\na2,\n", encoding="utf-8")
    (folder / "2.csv.gz").write_bytes(gzip.compress(b"z;id\n0.7;a3\n"))
    (folder / "labels.csv").write_text("id,class\na1,STAR\n", encoding="utf-8")
    first, second = look(folder, tmp_path)
    assert (first.files, first.rows, first.columns["z"].missing) == (["1.csv", "2.csv.gz"], 3, 1)
    assert (second.files, list(second.columns)) == (["labels.csv"], ["id", "class"])


def test_a_header_that_is_a_comment_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("# made by hand\n# name,class,flux\na1,STAR,1.5\n", encoding="utf-8")
    (table,) = look(path, tmp_path)
    assert list(table.columns) == ["name", "class", "flux"]
    assert table.columns["name"].matches == {"a1"}


@pytest.mark.parametrize("suffix", ["fits", "parquet", "vot"])
def test_columns_of_arrays_are_named_and_the_others_read(tmp_path: Path, suffix: str) -> None:
    columns = {f"c{number}": np.arange(3.0) + number for number in range(40)}
    table = Table({"id": ["a1", "a2", "a3"], "spectrum": np.zeros((3, 5)), **columns})
    path = tmp_path / f"c.{suffix}"
    if suffix == "parquet":
        table["spectrum"] = np.array([[1.0], [1.0, 2.0], []], dtype=object)
        table.to_pandas().to_parquet(path)
    elif suffix == "vot":
        table.write(path, format="votable")
    else:
        table.write(path)
    (found,) = look(path, tmp_path)
    assert found.columns["spectrum"].kind == "arrays"
    assert {found.columns[name].kind for name in columns} == {"whole numbers"}
    assert found.columns["id"].kind == "text"
    assert found.rows == 3


def test_a_table_of_nothing_but_faults_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("id,class\na1,STAR,\na2,STAR,\n", encoding="utf-8")
    message = complaint(SurveyError, look, path, tmp_path)
    assert "no row can be read; 2 faults, first wrong number of columns (c.csv:2)" in message


def test_a_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or a device" in complaint(SurveyError, look, tmp_path / "pipe", tmp_path)
