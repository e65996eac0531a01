import gzip
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table as AstropyTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacewarps.errors import SpaceWarpsError, SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import Columns
from tests.complaints import complaint

HEADER = "id,class,ra,dec,z,z_err\n"
GOOD = "a1,STAR,10,20,0.1,0.01\na2,QSO,11,21,0.2,0.02\na3,STAR,12,22,0.3,0.03\n"


NO_POSITIONS = Columns(ra=None, dec=None)


def read(
    path: Path,
    features: tuple[str, ...] = ("z", "z_err"),
    columns: Columns = Columns(),
    *,
    missing_codes: Mapping[str, Sequence[float]] = MappingProxyType({}),
    max_bad_fraction: float = 1.0,
) -> tuple[pd.DataFrame, Audit]:
    audit = Audit()
    samples = read_catalogue(
        path, columns, features, audit, missing_codes=missing_codes, max_bad_fraction=max_bad_fraction
    )
    return samples, audit


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def reasons(audit: Audit) -> dict[str, int]:
    return {reason: len(rows) for reason, rows in audit.left_out.items()}


def message_of(path: Path, **options: Any) -> str:
    message = complaint(SurveyError, read, path, **options)
    assert len(message) < 1000
    return message


def test_one_file_becomes_one_row_for_each_id_sorted_by_id(tmp_path: Path) -> None:
    samples, audit = read(write(tmp_path / "c.csv", HEADER + "b,QSO,11,-21,0.2,-1\na,STAR,10,20,,0\n"))
    assert samples["id"].tolist() == ["a", "b"]
    assert samples["label"].tolist() == ["STAR", "QSO"]
    assert samples[["ra", "dec"]].to_numpy().tolist() == [[10, 20], [11, -21]]
    assert math.isnan(samples["z"][0])
    assert samples["z_err"].tolist() == [0, -1]
    assert audit.rows_in == 2
    assert not audit.left_out
    assert audit.details["features"] == {
        "z": {"missing": 1, "not_a_number": 0},
        "z_err": {"missing": 0, "negative": 1, "zero": 1, "not_a_number": 0},
    }


def test_files_with_the_same_columns_stack_whatever_the_order_of_columns(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", HEADER + "a,STAR,10,20,1,2\n")
    write(tmp_path / "2.CSV", "z_err,z,dec,ra,class,id\n4,3,22,12,QSO,b\n")
    write(tmp_path / "notes.txt", "not a catalogue")
    samples, audit = read(tmp_path)
    assert samples.to_numpy().tolist() == [["a", "STAR", 10, 20, 1, 2], ["b", "QSO", 12, 22, 3, 4]]
    assert audit.details["catalogue"] == {"1.csv": {"rows": 2}}


def test_files_with_different_columns_join_on_the_id(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", "id,class\na,STAR\nb,QSO\nc,QSO\n")
    write(tmp_path / "z.csv", "ra,dec,z,z_err,id\n1,2,3,4,b\n5,6,7,8,a\n5,6,7,8,elsewhere\n1,2,3,4,\n")
    samples, audit = read(tmp_path)
    assert samples.to_numpy().tolist() == [["a", "STAR", 5, 6, 7, 8], ["b", "QSO", 1, 2, 3, 4]]
    assert audit.rows_in == 3
    assert audit.left_out == {"no usable row in z.csv": ["labels.csv:4 (c)"]}
    assert audit.details["catalogue"]["z.csv"] == {
        "rows": 4,
        "rows_without_partner": 1,
        "rows_ignored": {"no id": 1},
    }


def test_ids_keep_all_their_digits(tmp_path: Path) -> None:
    ids = ["7004987300150005914600060103", "7004987300150005914600060104", "0012", "123e45", "1e9"]
    samples, _ = read(write(tmp_path / "c.csv", HEADER + "".join(f"{key},STAR,1,2,3,4\n" for key in ids)))
    assert samples["id"].tolist() == sorted(ids)


@pytest.mark.parametrize(
    "key", ["7.0e+27", "7.004987300150006E27", "7004987300150005914600060103.0", "7E+27", "12.00", "1,23765E+18"]
)
def test_ids_that_were_read_as_numbers_are_refused(tmp_path: Path, key: str) -> None:
    message = message_of(write(tmp_path / "c.csv", HEADER + GOOD + f'"{key}",STAR,1,2,3,4\n'))
    assert "c.csv:5" in message
    assert key in message
    assert "ids as text" in message


def test_byte_order_mark_crlf_spaces_quotes_and_blank_lines_are_no_matter(tmp_path: Path) -> None:
    text = '\ufeff"id", class ,ra,dec,z,z_err\r\n\r\n" a1 ", STAR ,10 , 20,0.1,0.01\r\n\r\n'
    samples, audit = read(write(tmp_path / "c.csv", text))
    assert samples.to_numpy().tolist() == [["a1", "STAR", 10, 20, 0.1, 0.01]]
    assert audit.rows_in == 1


def test_catalogue_without_positions_has_none(tmp_path: Path) -> None:
    samples, audit = read(write(tmp_path / "c.csv", "id,class\na,STAR\n"), (), NO_POSITIONS)
    assert samples[["ra", "dec"]].isna().all(axis=None)
    assert audit.rows_in == len(samples) == 1


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "name,type,RAJ2000,DEJ2000\na,STAR,1,2\n")
    samples, _ = read(path, (), Columns("name", "type", "RAJ2000", "DEJ2000"))
    assert samples.to_numpy().tolist() == [["a", "STAR", 1, 2]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",STAR,1,2,3,4", "no id"),
        ("NaN,STAR,1,2,3,4", "no id"),
        ('"x\0y",STAR,1,2,3,4', "id with a control character"),
        ('"x\ny",STAR,1,2,3,4', "id with a control character"),
        ("x,,1,2,3,4", "no label"),
        ("x,null,1,2,3,4", 'no label (the word "null")'),
        ('x,"ST\rAR",1,2,3,4', "label with a control character"),
        ("x,STAR\0,1,2,3,4", "label with a control character"),
        ("x,STAR,NaN,2,3,4", "no usable position"),
        ("x,STAR,inf,2,3,4", "no usable position"),
        ("x,STAR,,2,3,4", "no usable position"),
        ("x,STAR,1_0,2,3,4", "position that is not a plain number of degrees, such as '1_0'"),
        ("x,STAR,1.5 deg,2,3,4", "position that is not a plain number of degrees, such as '1.5 deg'"),
        ("x,STAR,12:34:56,2,3,4", "position in hours, minutes or seconds instead of degrees, such as '12:34:56'"),
        ("x,STAR,12h34m56s,2,3,4", "position in hours, minutes or seconds instead of degrees, such as '12h34m56s'"),
        ("x,STAR,1,-12 34 56.7,3,4", "position in hours, minutes or seconds instead of degrees, such as '-12 34 56.7'"),
        ('x,STAR,"1,5",2,3,4', "position with a decimal comma, such as '1,5'"),
        ("x,STAR,360.5,2,3,4", "no usable position"),
        ("x,STAR,1,91,3,4", "no usable position"),
        ("x,STAR,1,-1e999,3,4", "no usable position"),
        ("x,STAR,1,2,3", "wrong number of columns"),
        ("x,STAR,1,2,3,4,5", "wrong number of columns"),
        ("x", "wrong number of columns"),
        ('"x"y,STAR,1,2,3,4', "not a line of CSV"),
        (f"{'x' * 200_000},STAR,1,2,3,4", "cell of more than 131072 characters"),
        ("a1,STAR,10,20,0.1,0.01", "repeated row"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_row_is_left_out_and_its_neighbours_are_kept(tmp_path: Path, row: str, reason: str) -> None:
    samples, audit = read(write(tmp_path / "c.csv", HEADER + "a1,STAR,10,20,0.1,0.01\n" + row + "\na2,QSO,1,2,3,4\n"))
    assert samples["id"].tolist() == ["a1", "a2"]
    assert reasons(audit) == {reason: 1}
    assert audit.rows_in == 3


@pytest.mark.parametrize("text", ["1_5", "0x10", "1,5", "abc", "1e", "--1"])
def test_a_feature_that_is_no_number_is_missing_and_counted(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "c.csv", f'id,class,z\na,STAR,"{text}"\nb,QSO,nan\nc,QSO,1\n')
    samples, audit = read(path, ("z",), NO_POSITIONS)
    assert samples["z"].isna().tolist() == [True, True, False]
    assert audit.details["features"]["z"] == {"missing": 2, "not_a_number": 1}
    assert audit.notes == [
        f"feature 'z': 1 of 3 values are not numbers and count as missing, such as '{text}' in c.csv:2"
    ]


@pytest.mark.parametrize("order", ["AAB", "ABA", "BAA"])
def test_rows_of_one_id_that_differ_are_all_left_out_in_any_order(tmp_path: Path, order: str) -> None:
    rows = {"A": "x,STAR,1,2,3,4\n", "B": "x,QSO,1,2,3,4\n"}
    samples, audit = read(write(tmp_path / "c.csv", HEADER + GOOD + "".join(rows[row] for row in order)))
    assert samples["id"].tolist() == ["a1", "a2", "a3"]
    assert sorted(audit.left_out["id of several rows that differ"]) == ["c.csv:5 (x)", "c.csv:6 (x)", "c.csv:7 (x)"]
    assert audit.rows_in == 6


def test_a_quote_that_is_never_closed_counts_every_line_it_swallows(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,class,note\na,STAR,\nb,STAR,\"5'\nc,QSO,\nd,QSO,\n")
    samples, audit = read(path, (), NO_POSITIONS)
    assert samples["id"].tolist() == ["a"]
    assert audit.left_out == {"not a line of CSV": ["c.csv:3", "c.csv:4", "c.csv:5"]}
    assert audit.rows_in == 4


def test_a_pair_of_stray_quotes_counts_every_line_between_them(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", 'id,class\na,STAR\n"b,STAR\nc,QSO\nd,QSO"\ne,QSO\n')
    samples, audit = read(path, (), NO_POSITIONS)
    assert samples["id"].tolist() == ["a", "e"]
    assert reasons(audit) == {"wrong number of columns": 3}
    assert audit.rows_in == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty", "column names"]),
        ("\ufeff", ["empty"]),
        ("\n\n", ["empty"]),
        (HEADER, ["header but no rows"]),
        ("name,class\na,STAR\n", ["no id column 'id'", "'name', 'class'", "`columns.id`"]),
        ("name;class\na;STAR\n", ["no id column 'id'", "'name', 'class'"]),
        ("ID,Class\na,STAR\n", ["no id column 'id'", "did you mean 'ID'?"]),
        ("id class\tra dec\na STAR\t1 2\n", ["separated by spaces as well as by tabs; save it as a CSV"]),
        ("objID class ra dec\na STAR 1 2\n", ["no id column 'id'", "did you mean 'objID'?"]),
        ("# no header\n# at all\n", ["empty"]),
        ("id,type\na,STAR\n", ["no label column 'class'", "`columns.label`"]),
        ("id,class,z,z\na,STAR,1,2\n", ["'z'", "twice"]),
        ("id,class,ra\na,STAR,1\n", ["no column 'dec'"]),
        ("id,class,ra,dec,redshift,z_er\na,STAR,1,2,1,2\n", ["no column 'z'", "`features`"]),
        ("id,class,ra,dec,z,z_er\na,STAR,1,2,1,2\n", ["no column 'z_err'", "did you mean 'z_er'"]),
        (HEADER.encode() + GOOD.encode() + b"\xff\x81,STAR,1,2,3,4\n", ["nor Windows-1252 (byte 0x81 in line 5)"]),
        (HEADER.encode() + b"\xff\0,STAR,1,2,3,4\n", ["not UTF-8 text, nor Windows-1252 (byte 0x00 in line 2)"]),
        ((HEADER + GOOD).replace("\n", "\r").encode() + b"a,\x8d,1,2,3,4\r", ["byte 0x8d in line 5"]),
        ((HEADER + "x" * 70_000 + "\n").encode() + b'"\n\n\x9d"\n', ["byte 0x9d in line 5"]),
        (f"{HEADER}a,\xc9,1,2,3,4\n".encode() + b"b,\xc9,1,2,3,4", ["UTF-8 text (byte 0xc9 in line 3) nor another"]),
        (b"\xef\xbb\xbf" + HEADER.encode() + b"a,\xc9,1,2,3,4\n", ["UTF-8 text that is damaged or was cut off"]),
        ((HEADER + GOOD).encode("utf-16")[:-1], ["UTF-16-LE text that is damaged or was cut off"]),
        ((HEADER + GOOD).encode("utf-32")[:-3], ["UTF-32-LE text that is damaged or was cut off"]),
        (HEADER.encode("utf-16"), ["header but no rows"]),
        (HEADER.encode("utf-16-le"), ["NUL characters", "UTF-16"]),
        (b"\x1f\x8b\x08\0", ["gzip that was cut off"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ["a pointer of Git LFS", "git lfs pull"]),
        (b"PK\x03\x04\x14\0", ["a zip archive or a spreadsheet"]),
        (b"SIMPLE  =                    T", ["FITS that was cut off"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["not UTF-8"]),
        ('"id,class\na,STAR\n', ["line 1 is not a header"]),
        ("\0\0\0\n\0", ["NUL characters"]),
        ("\x1b[2J\u2028" + "x" * 100_000 + ",b\n1,2\n", ["no id column"]),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_file_that_is_no_catalogue_is_refused_in_one_line(
    tmp_path: Path, content: str | bytes, words: list[str]
) -> None:
    message = message_of(write(tmp_path / "c.csv", content))
    assert "c.csv" in message
    for word in words:
        assert word in message


def test_a_missing_catalogue_and_a_folder_without_one_are_refused(tmp_path: Path) -> None:
    assert "nowhere" in message_of(tmp_path / "nowhere")
    assert "no catalogue (.csv, .tsv, .parquet, .fits" in message_of(tmp_path)


def test_a_column_of_two_joined_files_is_refused_if_it_is_needed(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "id,class,z,z_err,note\na,STAR,1,2,x\n")
    write(tmp_path / "2.csv", "id,z,note\na,1,y\n")
    message = message_of(tmp_path, columns=NO_POSITIONS)
    assert "'z' stands in both 1.csv and 2.csv" in message
    assert len(read(write(tmp_path / "2.csv", "id,note\na,y\n").parent, columns=NO_POSITIONS)[0]) == 1


@pytest.mark.parametrize("names", [("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("ra_deg", "dec_deg"), ("ra", "decl")])
def test_positions_under_other_names_are_asked_for(tmp_path: Path, names: tuple[str, str]) -> None:
    path = write(tmp_path / "c.csv", f"id,class,{names[0]},{names[1]}\na,STAR,1,2\n")
    named = f"'{names[0]}' and '{names[1]}' look like positions"
    assert named in message_of(path, features=())
    message = message_of(path, features=(), columns=NO_POSITIONS)
    assert "are null" in message
    assert named in message
    assert read(path, (), Columns(ra=names[0], dec=names[1]))[0]["ra"].tolist() == [1]


def test_a_catalogue_without_positions_is_refused_unless_the_params_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,class,ra_err\na,STAR,1\n")
    message = message_of(path, features=())
    assert "there is no column 'ra' and no column 'dec' for positions" in message
    assert "set `columns.ra` and `columns.dec` to null" in message
    write(path, "id,class,East,North\na,STAR,1,2\n")
    assert "did you mean 'East'?" in message_of(path, features=(), columns=Columns(ra="east", dec="north"))


def test_other_delimiters_comments_and_hidden_files_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", (HEADER + GOOD).replace(",", ";"))
    write(tmp_path / "b.csv", "#Table1\n" + (HEADER + GOOD.replace("a", "b")).replace(",", ";"))
    write(tmp_path / "c.csv", "# " + (HEADER + GOOD.replace("a", "c")).replace(",", "\t"))
    write(tmp_path / "._a.csv", b"\0\5\x16\7\xff")
    write(tmp_path / ".backup.csv", "id,class\na1,OLD\n")
    write(tmp_path / "~$a.csv", "\5owner")
    samples, audit = read(tmp_path)
    assert samples["id"].tolist() == ["a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"]
    assert audit.notes == [
        "hidden or temporary, so not read: '._a.csv' and 2 more",
        "separated by semicolons: 'a.csv' and 1 more",
        "separated by tabs: 'c.csv'",
        "lines that begin with # and were taken for comments: 1 in 'b.csv'",
    ]


MARKED = {
    "utf-8-sig": "",
    "utf-16": "",
    "utf-32": "",
    "utf-16-le": "\ufeff",
    "utf-16-be": "\ufeff",
    "utf-32-be": "\ufeff",
    "utf-8": "",
    "cp1252": "",
}


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("packed", [False, True])
def test_text_is_read_in_the_encoding_that_it_has(tmp_path: Path, encoding: str, packed: bool) -> None:
    names = ["\u00c9toile", "QSO \u2013 1"]
    text = MARKED[encoding] + f"{HEADER}caf\u00e9,{names[0]},1,2,3,4\r\nb,{names[1]},1,2,3,4\r\n"
    content = text.encode(encoding)
    samples, audit = read(write(tmp_path / "c.csv", gzip.compress(content) if packed else content))
    assert samples["id"].tolist() == ["b", "caf\u00e9"]
    assert samples["label"].tolist() == names[::-1]
    told = "not UTF-8, so read as Windows-1252 (Latin-1): 'c.csv'; check its names"
    assert audit.notes == ([told] if encoding == "cp1252" else [])


SPACED = """\
# made for the eye
  id     class   ra      dec    z    z_err
# a0 STAR 1 2 3
  a1     STAR    10.5   -20.0   0.1  0.01
  a2     "A B"   11     +21     0.2  0.02

  "a 3"  QSO     300.25   0     --   0.03
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n"])
def test_columns_may_be_separated_by_runs_of_spaces(tmp_path: Path, end: str) -> None:
    samples, audit = read(write(tmp_path / "c.dat", SPACED.replace("\n", end)))
    assert samples["id"].tolist() == ["a 3", "a1", "a2"]
    assert samples["label"].tolist() == ["QSO", "STAR", "A B"]
    assert samples["dec"].tolist() == [0, -20, 21]
    assert samples["z"].isna().tolist() == [True, False, False]
    assert audit.notes[:2] == [
        "separated by spaces: 'c.dat'",
        "lines that begin with # and were taken for comments: 2 in 'c.dat'",
    ]
    assert audit.rows_in == 3


def test_rows_separated_by_spaces_that_do_not_fit_the_header_are_told(tmp_path: Path) -> None:
    rows = 'a b STAR 1 2\n"c STAR 1 2\nd" STAR 1 2\ne STAR 1 2\n"f"g STAR 1 2\n'
    samples, audit = read(write(tmp_path / "c.dat", f"id class ra dec\n{rows}"), ())
    # A quote that is not closed costs its own line alone.
    assert samples["id"].tolist() == ['d"', "e"]
    assert audit.left_out == {"wrong number of columns": ["c.dat:2"], "not a line of CSV": ["c.dat:3", "c.dat:6"]}


def test_a_comment_of_as_many_words_as_the_rows_have_cells_may_be_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "c.txt", "# the id class ra dec of each\n#id  class ra dec\na STAR 1 2\nb STAR 1\n")
    samples, audit = read(path, ())
    assert samples["id"].tolist() == ["a"]
    assert audit.left_out == {"wrong number of columns": ["c.txt:4"]}


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_a_table_of_astropy_is_read_and_its_description_is_a_comment(tmp_path: Path, delimiter: str) -> None:
    table = AstropyTable({"id": [2**62, 1], "class": ["A B", "C"], "ra": [1.5, 2], "dec": [3.0, 4], "z": [0.1, 0.2]})
    table["z"] = np.ma.masked_array(table["z"], [True, False])
    path = tmp_path / "c.ecsv"
    table.write(path, delimiter=delimiter)
    samples, audit = read(tmp_path, ("z",))
    assert samples["id"].tolist() == ["1", str(2**62)]
    assert samples["label"].tolist() == ["C", "A B"]
    assert samples["z"].isna().tolist() == [False, True]
    comments = path.read_text().count("#")
    told = f"lines that begin with # and were taken for comments: {comments} in 'c.ecsv'"
    assert audit.notes == ["separated by spaces: 'c.ecsv'", told][delimiter == "," :]


def test_in_a_folder_a_text_without_a_table_is_told_and_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", (HEADER + GOOD).replace(",", "\t").encode("utf-16"))
    write(tmp_path / "b.DAT.gz", gzip.compress((HEADER + GOOD.replace("a", "b")).replace(",", "  ").encode()))
    write(tmp_path / "readme.txt", "Stars and quasars\n=================\nThe id is that of the spectrum.\n")
    write(tmp_path / "empty.txt", "")
    samples, audit = read(tmp_path)
    assert samples["id"].tolist() == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert audit.notes[0] == "text without a table, so not read: 'empty.txt' and 1 more"
    assert "there is no id column 'id'" in message_of(tmp_path / "readme.txt")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.symlink_to(path.with_name("nowhere")), "a link to nothing"),
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "not a file"),
    ],
)
def test_a_chunk_that_went_away_is_missed(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    write(tmp_path / "1.csv", HEADER + GOOD)
    make(tmp_path / "2.csv")
    assert f"2.csv: {what} among the catalogues" in message_of(tmp_path)


def test_a_pipe_and_a_device_are_no_catalogues(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "cannot be read (a pipe or a device, not a file)" in message_of(tmp_path / "pipe")
    assert "cannot be read (a pipe or a device, not a file)" in message_of(Path("/dev/zero"))


def test_one_class_as_integers_and_as_decimals_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "id,class\na,0\nb,1\n")
    write(tmp_path / "2.csv", "id,class\nc,1.0\n")
    message = message_of(tmp_path, features=(), columns=NO_POSITIONS)
    assert message.startswith("2.csv:2: label '1.0' is the same number as '1' in 1.csv:3")


def test_labels_are_one_in_any_form_of_unicode_and_a_difference_in_case_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,class\na,\u00c9toile\nb,E\u0301toile\nc,STAR\nd,Star\n")
    samples, audit = read(path, (), NO_POSITIONS)
    assert samples["label"].tolist() == ["\u00c9toile", "\u00c9toile", "STAR", "Star"]
    assert audit.notes == ["2 classes differ only in case or spaces: 'STAR', 'Star'; should they be one?"]


def test_a_class_that_loses_every_row_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,class,ra,dec\na,STAR,1,2\nb,NOISE,,\nc,None,1,2\n")
    assert read(path, ())[1].notes == ["classes of which every row was left out: 'NOISE'"]


def test_ids_join_in_any_form_of_unicode(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "id,class\n\u00fc,STAR\n")
    write(tmp_path / "2.csv", "id,z\nu\u0308,1\n")
    samples, _ = read(tmp_path, ("z",), NO_POSITIONS)
    assert samples[["id", "z"]].to_numpy().tolist() == [["\u00fc", 1]]


def test_rows_that_differ_only_in_columns_that_nobody_reads_are_one_row(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", ",id,class,z\n0,a,STAR,1\n1,b,QSO,2\n2,a, STAR,1\n3,b,QSO,3\n")
    samples, audit = read(path, ("z",), NO_POSITIONS)
    assert samples["id"].tolist() == ["a"]
    assert audit.left_out["repeated row"] == ["c.csv:4 (a)"]
    assert sorted(audit.left_out["id of several rows that differ"]) == ["c.csv:3 (b)", "c.csv:5 (b)"]
    assert len(read(path, (), NO_POSITIONS)[0]) == 2


@pytest.mark.parametrize("name", ["label", "source", "split", "ra"])
def test_a_feature_cannot_take_the_place_of_a_column_of_the_sample_table(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "c.csv", f"id,class,{name}\na,STAR,1\n")
    message = message_of(path, features=(name,), columns=NO_POSITIONS)
    assert repr(name) in message
    assert "`features`" in message


CELLS = st.one_of(
    st.sampled_from(["", "nan", "a", "b", "STAR", "1", "359.99", "90", "91", "inf", "1e400", '"', '""', '"x\n', "\0"]),
    st.text(max_size=6),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=7), max_size=8), tail=st.binary(max_size=12))
def test_any_rows_are_kept_or_left_out_or_refused_in_one_line(
    tmp_path: Path, rows: list[list[str]], tail: bytes
) -> None:
    text = HEADER + "".join(",".join(row) + "\n" for row in rows)
    path = write(tmp_path / "c.csv", text.encode("utf-8", "surrogatepass") + tail)
    message = ""
    try:
        samples, audit = read(path)
    except SpaceWarpsError as error:
        message = str(error)
    if message:
        assert len(message.splitlines()) == 1
        return
    assert audit.rows_in == len(samples) + sum(reasons(audit).values())
    assert samples["id"].is_unique
    assert samples["dec"].between(-90, 90).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_catalogue_or_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "c.csv", content)
    with pytest.raises(SpaceWarpsError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_feature_whose_name_no_table_could_hold_again_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", '"",id,class,ra,dec,"z\rerr"\n1,a,STAR,10,20,0.1\n')
    for name in ("", "z\rerr"):
        assert "`features` cannot hold" in message_of(path, features=[name])
