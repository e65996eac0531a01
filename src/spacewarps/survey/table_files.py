"""Catalogue files of any format, told by how they begin and not by their names."""

import io
from collections.abc import Collection
from pathlib import Path

from spacewarps.errors import SurveyError
from spacewarps.reading import check_file, read_bytes
from spacewarps.survey import arrow_tables, gzipped
from spacewarps.survey.delimited import Table, looks_like_table, read_table
from spacewarps.survey.encodings import marked_encoding
from spacewarps.survey.fits_tables import read_fits_tables
from spacewarps.survey.parquet_tables import read_parquet
from spacewarps.survey.typed_tables import TableError
from spacewarps.survey.votables import read_votables

#: How the names of catalogues in a folder end, in small letters; ``.gz`` may follow.
SUFFIXES = (
    ".csv",
    ".tsv",
    ".parquet",
    ".fits",
    ".fit",
    ".vot",
    ".votable",
    ".xml",
    ".ecsv",
    ".arrow",
    ".feather",
    ".dat",
    ".txt",
)
# Of files of these names, those that hold tables are catalogues.
_OF_ANY_TEXT = (".dat", ".txt")
# What gzip unpacks to, and a VOTable, which is held in memory as a whole.
_MOST_BYTES = 2**29
_HEAD = 64
_TEXT_HEAD = 2**16


def is_catalogue(name: str) -> bool:
    """Say whether a file of this name is taken for a catalogue where it stands in a folder of them."""
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def is_other_text(path: Path) -> bool:
    """Say whether ``path``, which has the name of a catalogue, is a text without a table, as a list of changes is."""
    return path.name.lower().removesuffix(".gz").endswith(_OF_ANY_TEXT) and not looks_like_table(text_head(path))


def text_head(path: Path) -> str:
    """Return the beginning of the text in ``path``, unpacked; what cannot be decoded is not in it.

    Raises:
        SurveyError: it cannot be read.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            head = file.read(_TEXT_HEAD)
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror})") from None
    if head.startswith(gzipped.MAGIC):
        try:
            head = gzipped.beginning_of(head, at_most=_TEXT_HEAD)
        except gzipped.GzipError:
            return ""
    return head.decode(marked_encoding(head) or "utf-8", "ignore")


def read_tables(path: Path, wanted: Collection[str], id_column: str) -> list[Table]:
    """Read the tables in ``path``: delimited text, FITS, Parquet, Arrow or VOTable, or one of them packed by gzip.

    Args:
        path: the file.
        wanted: the columns that are needed; of others, only the names are.
        id_column: the one that rows are joined by.

    Raises:
        SurveyError: it cannot be read, is none of these, or damaged.
    """
    try:
        check_file(path)
        content = _unpacked(path)
        start = _start_of(path) if content is None else content[:_HEAD]
        if start.startswith(b"SIMPLE  ="):
            return read_fits_tables(path.name, path if content is None else content, wanted, id_column)
        if start.startswith(b"PAR1"):
            return read_parquet(path.name, path if content is None else io.BytesIO(content), wanted, id_column)
        if start.startswith((arrow_tables.MAGIC, arrow_tables.STREAM)):
            return arrow_tables.read_arrow(path.name, path if content is None else content, wanted, id_column)
        if start.decode(marked_encoding(start) or "utf-8", "ignore").lstrip().startswith(("<?xml", "<VOTABLE")):
            whole = read_bytes(path, at_most=_MOST_BYTES) if content is None else content
            return read_votables(path.name, whole, wanted, id_column)
    except TableError as error:
        raise SurveyError(f"{path}: {error}") from None
    except gzipped.GzipError as error:
        raise SurveyError(f"{path}: {error}; unpack it yourself if it is sound") from None
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror})") from None
    return [read_table(path, wanted, content)]


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _unpacked(path: Path) -> bytes | None:
    """Return what gzip has packed into ``path``; None if it is no gzip."""
    if not _start_of(path).startswith(gzipped.MAGIC):
        return None
    return gzipped.gunzip(read_bytes(path, at_most=_MOST_BYTES), at_most=_MOST_BYTES)
