import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from pyarrow import feather, ipc

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import Columns
from spacewarps.survey.table_files import read_tables
from tests.complaints import complaint
from tests.fuzz.files import in_arrow

# Integers of 64 bits that no float holds; the second is none without its sign bit.
IDS = [1237660025035096479, 10305620092273317889]
ROWS: dict[str, Any] = {
    "objID": np.array(IDS, np.uint64),
    "class": ["STAR", "QSO"],
    "RA_deg": np.array([10.5, 11.25]),
    "DE_deg": np.array([-20.0, 21.0]),
    "mag": np.array([20.125, np.nan], np.float32),
    "clean": np.array([True, False]),
    "unread": np.zeros((2, 3)),
}
COLUMNS = Columns(id="objID", ra="RA_deg", dec="DE_deg")


def in_fits(rows: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(Table(rows))]).writeto(file)
    return file.getvalue()


def in_parquet(rows: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(_plain(rows)), file)
    return file.getvalue()


def _plain(rows: dict[str, Any]) -> dict[str, Any]:
    # Arrow has lists, and no arrays of several dimensions.
    return {name: [*values] if np.ndim(values) > 1 else values for name, values in rows.items()}


def in_votable(rows: dict[str, Any], kind: str = "tabledata") -> bytes:
    # VOTable has no unsigned integers.
    signed = {name: [str(v) for v in values] if name == "objID" else values for name, values in rows.items()}
    file = io.BytesIO()
    votable.from_table(Table(signed)).to_xml(file, tabledata_format=kind)
    return file.getvalue()


def in_csv(rows: dict[str, Any], delimiter: str = ",") -> bytes:
    lines = zip(*({**rows, "clean": [1, 0], "unread": ['""', '""']}.values()), strict=True)
    return "\n".join([delimiter.join(rows), *(delimiter.join(map(str, line)) for line in lines)]).encode()


FORMATS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "c.csv": in_csv,
    "c.dat": lambda rows: in_csv(rows, "   "),
    "c.txt": lambda rows: in_csv(rows).decode().encode("utf-16"),
    "c.csv.gz": lambda rows: gzip.compress(in_csv(rows)),
    "c.fits": in_fits,
    "c.fits.gz": lambda rows: gzip.compress(in_fits(rows)),
    "c.parquet": in_parquet,
    "c.arrow": lambda rows: in_arrow(_plain(rows)),
    "c.arrow.gz": lambda rows: gzip.compress(in_arrow(_plain(rows), is_file=False)),
    "c.feather": lambda rows: in_arrow(_plain(rows), compression="lz4"),
    "c.vot": in_votable,
    "utf-16.vot": lambda rows: in_votable(rows).decode().replace("utf-8", "utf-16").encode("utf-16"),
    "c.xml": lambda rows: in_votable(rows, "binary2"),
    "c.votable.gz": lambda rows: gzip.compress(in_votable(rows, "binary")),
}


def read(path: Path, features: tuple[str, ...] = (), columns: Columns = COLUMNS, share: float = 1.0) -> list[list[Any]]:
    rows = read_catalogue(path, columns, features, Audit(), missing_codes={}, max_bad_fraction=share)
    return rows.astype(object).where(rows.notna(), None).to_numpy().tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name](ROWS))
    for path in (tmp_path, tmp_path / name):
        assert read(path, ("mag", "clean")) == [
            [str(IDS[1]), "QSO", 11.25, 21.0, None, 0.0],
            [str(IDS[0]), "STAR", 10.5, -20.0, 20.125, 1.0],
        ]


@pytest.mark.parametrize("name", ["c.fits", "c.parquet", "c.arrow", "c.vot", "c.csv.gz"])
def test_an_integer_of_64_bits_is_the_same_id_as_its_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name]({key: ROWS[key] for key in ("objID", "mag", "clean", "unread")}))
    (tmp_path / "labels.csv").write_text("class;RA_deg;DE_deg;objID\n" + "".join(f"STAR;1;2;{key}\n" for key in IDS))
    assert [row[0] for row in read(tmp_path, ("mag",))] == sorted(map(str, IDS))


@pytest.mark.parametrize("name", ["c.fits", "c.parquet", "c.feather"])
def test_an_id_that_is_a_float_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name]({**ROWS, "objID": np.array(IDS, np.float64)}))
    assert complaint(SurveyError, read, tmp_path / name) == (
        f"{tmp_path / name}: id column 'objID' holds floating-point numbers, which lose the last digits of long ids; "
        "write the catalogue again with its ids as integers or text"
    )


def test_chunks_of_several_formats_stack(tmp_path: Path) -> None:
    for number, (name, write) in enumerate(FORMATS.items()):
        rows = {**ROWS, "objID": np.array(IDS, np.uint64) + number * 10}
        (tmp_path / f"{number}{name}").write_bytes(write(rows))
    assert len(read(tmp_path, ("mag",))) == 2 * len(FORMATS)


def test_missing_integers_are_missing_and_not_numbers(tmp_path: Path) -> None:
    columns = [
        fits.Column("objID", "K", array=IDS[:1] * 2),
        fits.Column("n", "J", null=-99, array=np.array([-99, 5])),
        fits.Column("m", "I", null=-1, bzero=32768, array=np.array([32767, 40000], np.uint16)),
    ]
    file = tmp_path / "c.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(file)
    (table,) = read_tables(file, {"objID", "n", "m"}, "objID")
    assert table.rows == [[str(IDS[0]), "", ""], [str(IDS[0]), "5", "40000"]]
    pq.write_table(pa.table({"objID": pa.array([*IDS, None], pa.uint64()), "n": [1, None, 3]}), tmp_path / "c.parquet")
    (table,) = read_tables(tmp_path / "c.parquet", {"objID", "n"}, "objID")
    assert table.rows == [[str(IDS[0]), "1"], [str(IDS[1]), ""], ["", "3"]]


def test_only_the_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_bytes(in_parquet(ROWS))
    (table,) = read_tables(tmp_path / "c.parquet", {"objID", "class"}, "objID")
    assert (table.header, table.columns) == (["objID", "class"], list(ROWS))
    for name in ("c.fits", "c.parquet", "c.feather"):
        (tmp_path / name).write_bytes(FORMATS[name](ROWS))
        assert "column 'unread' holds arrays" in complaint(SurveyError, read, tmp_path / name, ("unread",))


@pytest.mark.parametrize("name", FORMATS)
def test_names_of_the_field_are_suggested_and_not_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name](ROWS))
    message = complaint(SurveyError, read, tmp_path / name, (), Columns())
    assert message.startswith(f"{name}: there is no id column 'id', only 'objID', 'class', 'RA_deg',")
    assert "did you mean 'objID'? rename it or set `columns.id`" in message
    message = complaint(SurveyError, read, tmp_path / name, (), Columns(id="objID"))
    assert "'RA_deg' and 'DE_deg' look like positions; set `columns.ra` and `columns.dec`" in message


def votable_of(inside: str, before: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>{before}<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f"<RESOURCE>{inside}</RESOURCE></VOTABLE>"
    ).encode()


FIELD = '<FIELD name="objID" datatype="char" arraysize="*"/>'
CELLS = "<DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA>"
FITS_TABLE = in_fits(ROWS)
ROW: dict[str, Any] = {"objID": [1, 2], "class": ["STAR", "QSO"]}
ARROW = in_arrow(ROW)
# Two integers of 64 bits, and how Zstandard begins.
PACKED = struct.pack("<q", 16) + b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            votable_of(f"<TABLE>{FIELD}{CELLS}</TABLE>", '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>'),
            "XML with a document type, whose entities can ask for other files; save it without",
        ),
        (
            votable_of(
                f'<TABLE>{FIELD}<DATA><BINARY><STREAM href="file:///etc/passwd"/></BINARY></DATA></TABLE>',
            ),
            "VOTable whose data are in another file, which is not fetched; save it in one piece",
        ),
        (
            votable_of(f'<TABLE nrows="99999999999">{FIELD}{CELLS}</TABLE>'),
            "VOTable that claims more rows or longer cells than can be read; is it damaged?",
        ),
        (
            votable_of(f"<TABLE>{FIELD.replace('*', '999999999')}{CELLS}</TABLE>"),
            "VOTable that claims more rows or longer cells than can be read; is it damaged?",
        ),
        (b'<?xml version="1.0"?><html/>', "XML of 'html', not a VOTable"),
        (votable_of(""), "VOTable without a table"),
        (votable_of("<TABLE>"), "damaged VOTable (mismatched tag"),
        (
            FITS_TABLE.replace(b"NAXIS2  =                    2", b"NAXIS2  =             25000000"),
            "claims 25,000,000 rows",
        ),
        (FITS_TABLE.replace(b"NAXIS2  =                    2", b"NAXIS2  =              1000000"), "FITS that was cut"),
        (FITS_TABLE[:5760], "FITS that was cut off"),
        (FITS_TABLE[:2880], "FITS without a table"),
        (b"PAR1" + bytes(100), "damaged Parquet ("),
        (in_parquet(ROWS)[:-20] + b"PAR1", "damaged Parquet ("),
        (b"ARROW1\0\0" + bytes(100) + b"ARROW1", "has columns but no rows"),
        (ARROW[:-1], "Arrow that was cut off"),
        (ARROW[: len(ARROW) // 2] + b"ARROW1", "damaged Arrow ("),
        (in_arrow(ROW, is_file=False)[:-60], "damaged Arrow ("),
        (ARROW.replace(struct.pack("<3i", 0, 4, 7), struct.pack("<3i", 0, 4, 2**30)), "damaged Arrow ("),
        (
            in_arrow(ROW, compression="zstd").replace(PACKED, struct.pack("<q", 2**29) + PACKED[8:]),
            "Arrow with a batch of more than 536,870,912 bytes; write it in smaller batches",
        ),
        (in_arrow({name: values[:0] for name, values in ROW.items()}), "has columns but no rows"),
        (b"FEA1" + bytes(100), "Feather of version 1, not text; save its table as Arrow, Parquet or a UTF-8 CSV"),
        (gzip.compress(bytes(2**29 + 1)), "gzip of more than 536,870,912 bytes; unpack it yourself if it is sound"),
        (gzip.compress(in_csv(ROWS))[:-10], "gzip that was cut off"),
        (gzip.compress(b"\xff\xfe\0"), "UTF-16-LE text that is damaged or was cut off"),
    ],
    ids=range(24),
)
def test_a_file_that_asks_for_too_much_or_is_damaged_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "c.any"
    path.write_bytes(content)
    assert complaint(SurveyError, read, path).startswith(f"{path}: {reason}")


def test_a_text_that_a_small_parquet_repeats_in_every_row_takes_its_room_once(tmp_path: Path) -> None:
    rows = 200_000
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"objID": np.arange(rows), "class": text}), tmp_path / "c")
    assert (tmp_path / "c").stat().st_size < 2**21
    (table,) = read_tables(tmp_path / "c", {"objID", "class"}, "objID")
    assert len(table.rows) == rows
    assert len({id(row[1]) for row in table.rows}) < 10


def test_a_text_that_a_small_arrow_file_repeats_in_every_row_takes_its_room_once(tmp_path: Path) -> None:
    rows = {"objID": np.arange(1000), "class": ["x" * 100_000] * 1000}
    feather.write_feather(pa.table(rows), tmp_path / "c", compression="zstd")
    assert (tmp_path / "c").stat().st_size < 2**19
    (table,) = read_tables(tmp_path / "c", {"objID", "class"}, "objID")
    assert len(table.rows) == 1000
    assert len({id(row[1]) for row in table.rows}) == 1


def test_columns_of_arrow_keep_their_gaps_and_its_dictionaries_may_grow(tmp_path: Path) -> None:
    sink = tmp_path / "c.arrow"
    schema = pa.schema({"objID": pa.uint64(), "n": pa.int8(), "class": pa.dictionary(pa.int8(), pa.string())})
    with ipc.new_stream(sink, schema, options=ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as stream:
        for classes in (["STAR"], ["STAR", "QSO"]):
            known = pa.DictionaryArray.from_arrays(pa.array([None, len(classes) - 1], pa.int8()), classes)
            ids, numbers = pa.array([IDS[1], None], pa.uint64()), pa.array([None, 3], pa.int8())
            stream.write_batch(pa.record_batch([ids, numbers, known], schema=schema))
    (table,) = read_tables(sink, {"objID", "n", "class"}, "objID")
    assert table.rows == [[str(IDS[1]), "", ""], ["", "3", "STAR"], [str(IDS[1]), "", ""], ["", "3", "QSO"]]
