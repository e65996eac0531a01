import os
from pathlib import Path

import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.delimited import Table, read_table

WANTED = {"id", "class", "z"}


def read(folder: Path, text: str) -> Table:
    path = folder / "c.csv"
    path.write_bytes(text.encode())
    return read_table(path, WANTED)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_says_what_separates_the_columns(tmp_path: Path, delimiter: str) -> None:
    lines = [["id", "class", "note"], ["a", "STAR", "1,5 of 2; 3 | 4"], ["b", "QSO", ""]]
    text = "".join(delimiter.join(f'"{cell}"' for cell in line) + "\n" for line in lines)
    table = read(tmp_path, text)
    assert (table.delimiter, table.header, table.rows) == (delimiter, lines[0], lines[1:])


def test_names_that_hold_other_delimiters_do_not_mislead(tmp_path: Path) -> None:
    table = read(tmp_path, "id,class,mag|g,mag|r,mag|i,a;b;c;d\na,STAR,1,2,3,4\n")
    assert table.header == ["id", "class", "mag|g", "mag|r", "mag|i", "a;b;c;d"]
    assert table.places == ["c.csv:2"]


@pytest.mark.parametrize(
    ("above", "comments", "first_line"),
    [
        ("#Table1\nid,class\n", 1, 3),
        ("# id,class\n", 0, 2),
        ("#id,class\n#deg,name\n\n", 1, 4),
        ("# made by hand\n#\n\n# id , class\n", 2, 5),
        ("sep=;\nid;class\n".replace(";", ","), 0, 3),
        ("# %ECSV 1.0\n# - {name: id, datatype: string}\nid,class\n", 2, 4),
    ],
)
def test_comments_above_the_rows_are_skipped_or_are_the_header(
    tmp_path: Path, above: str, comments: int, first_line: int
) -> None:
    table = read(tmp_path, f"{above}a,STAR\n# half of it\nb,QSO\n")
    assert table.header == ["id", "class"]
    assert table.rows == [["a", "STAR"], ["b", "QSO"]]
    assert table.places == [f"c.csv:{first_line}", f"c.csv:{first_line + 2}"]
    assert table.comments == comments + 1
    assert table.faults == []


def test_a_row_is_where_it_begins_whatever_its_cells_hold(tmp_path: Path) -> None:
    table = read(tmp_path, 'id,class\na,"ST\nAR"\n\n  \nb,QSO\nc\n"d\n\n",STAR\n')
    assert table.places == ["c.csv:2", "c.csv:6", "c.csv:8"]
    assert table.faults == [("wrong number of columns", "c.csv:7")]


def test_quotes_after_a_space_are_quotes(tmp_path: Path) -> None:
    assert read(tmp_path, 'id, "class"\na, "STAR, F"\n').rows == [["a", "STAR, F"]]


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    assert read(tmp_path, "id,class,,\na,STAR,,\n").rows == [["a", "STAR", "", ""]]


def test_a_pipe_and_a_device_are_refused_without_being_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(SurveyError, match=rf"{path}: cannot be read \(a pipe or a device, not a file\)"):
            read_table(path, WANTED)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="line 1 has more than 16777216 characters"):
        read(tmp_path, "x" * 2**24 + "\n")


@pytest.mark.parametrize("column", [0, 1, 2, 3])
@pytest.mark.parametrize("apart", [1, 2, 20])
def test_rows_between_two_quotes_that_do_not_belong_together_are_counted_as_faults(
    tmp_path: Path, column: int, apart: int
) -> None:
    rows = [[f"i{number}", "STAR", f"{number}", "note"] for number in range(30)]
    rows[5][column] = f'"{rows[5][column]}'
    rows[5 + apart][column] += '"'
    table = read(tmp_path, "id,class,z,note\n" + "".join(",".join(row) + "\n" for row in rows))
    assert len(table.rows) == 29 - apart
    reason = "quote that is not closed, which swallows the rows after it"
    assert table.faults == [(reason, f"c.csv:{line}") for line in range(7, 8 + apart)]


def test_text_of_several_lines_with_delimiters_in_it_is_text(tmp_path: Path) -> None:
    table = read(tmp_path, 'id,class,z,note\na,STAR,1,"seen, twice\nand then not"\nb,QSO,2,"x\ny"\n')
    assert [row[3] for row in table.rows] == ["seen, twice\nand then not", "x\ny"]
    assert table.faults == []
