"""Delimited text: one CSV, or a table that is separated otherwise, as rows of text and the place of each."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from spacewarps.errors import SurveyError
from spacewarps.reading import check_file
from spacewarps.survey.columns import shown

if TYPE_CHECKING:
    import _csv

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# No line of a catalogue is as long; a file without lines must not fill memory.
_LONGEST_LINE = 2**24
# What a spreadsheet reads in the first line as the delimiter of the rest.
_SPREADSHEETS_WORD = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE)
# How files begin that somebody may take for a catalogue.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive or a spreadsheet, not text; save it as a UTF-8 CSV",
    b"\x89HDF": "an HDF5 file, not text; save its table as FITS, Parquet or a UTF-8 CSV",
    b"version https://git-lfs": "a pointer of Git LFS, not the catalogue; fetch it with git lfs pull",
    b"<!DOCTYPE": "an HTML page or XML, not a table; fetch it again, or save it as a VOTable without a document type",
    b"\xff\xfe\0\0": "UTF-32 text, not UTF-8; save it as a UTF-8 CSV",
    b"\xff\xfe": "UTF-16 text, not UTF-8; save it as a UTF-8 CSV",
    b"\xfe\xff": "UTF-16 text, not UTF-8; save it as a UTF-8 CSV",
}


@dataclass
class Table:
    """Rows as text, under one header; ``places`` says where each row begins (``file:line``).

    ``faults`` are the lines that do not fit the header: the reason and the place of each. ``comments`` counts the lines
    that begin with ``#`` and are neither header nor row. ``columns`` are the names of all columns in the file, where
    only those of ``header`` were read.
    """

    name: str
    header: list[str]
    delimiter: str
    rows: list[list[str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    comments: int = 0
    columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = self.columns or self.header


def read_table(path: Path, wanted: Collection[str], content: bytes | None = None) -> Table:
    """Read the table in ``path``, or in ``content``, which was packed there.

    The header is the first line that is no comment, or a comment above it that names more columns of ``wanted``. Its
    delimiter is the one of ``DELIMITERS`` that finds most of ``wanted`` there.

    Raises:
        SurveyError: ``path`` is not a regular file of UTF-8 text with a header and rows.
    """
    try:
        check_file(path)
        _refuse_signature(path, content)
        with io.TextIOWrapper(_opened(path, content), encoding="utf-8-sig", newline="") as file:
            table = _read(path, file, wanted)
    except UnicodeDecodeError:
        raise SurveyError(f"{path}: {_undecodable(path, content)}; save it as a UTF-8 CSV") from None
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror})") from None
    repeated = [name for name, count in Counter(table.header).items() if count > 1 and name]
    if repeated:
        raise SurveyError(f"{path}: column {shown(repeated[0])} appears twice in the header; rename or remove one")
    if not table.rows and not table.faults:
        raise SurveyError(f"{path}: has a header but no rows")
    return table


def _read(path: Path, file: TextIO, wanted: Collection[str]) -> Table:
    lines = _lines(path, file)
    above: list[str] = []
    first = next(lines, "")
    while first and (not first.strip() or first.startswith("#") or _SPREADSHEETS_WORD.fullmatch(first)):
        above.append(first)
        first = next(lines, "")
    candidates = [first, *(line for line in above if line.startswith("#"))]
    # Of lines that name as many columns this is the first in the list, so a comment has to be the better header.
    header = max(candidates, key=lambda line: max(_named(line, wanted).values()))
    if not any(_named(header, wanted).values()) and any(_by_spaces(line, wanted) > 1 for line in candidates):
        raise SurveyError(f"{path}: its columns are separated by spaces; save it as a CSV, separated by commas")
    if not header:
        raise SurveyError(f"{path}: empty; a catalogue starts with a line of column names")
    if "\0" in header:
        raise SurveyError(
            f"{path}: its header holds NUL characters, so it is UTF-16 or no text; save it as a UTF-8 CSV"
        )
    commented = header is not first
    delimiter = _delimiter(header, wanted)
    source = chain([_without_mark(header)], [first] if commented else [], lines)
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise SurveyError(f"{path}: line {len(above) + 1} is not a header of column names ({error})") from None
    table = Table(path.name, names, delimiter, comments=len(candidates) - 1 - commented)
    # A header from above the rows was put before them, and is one line that does not stand there.
    _read_rows(reader, table, len(above) - commented)
    return table


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise SurveyError(f"{path}: line {number} has more than {_LONGEST_LINE} characters; is it a table?")
        yield line


def _without_mark(line: str) -> str:
    return line.lstrip("# \t") if line.startswith("#") else line


def _named(line: str, wanted: Collection[str]) -> dict[str, int]:
    """Return how many of the columns in ``wanted`` each delimiter finds in a header."""
    return {delimiter: len(set(_cells(line, delimiter)) & set(wanted)) for delimiter in DELIMITERS}


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([_without_mark(line)], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _by_spaces(line: str, wanted: Collection[str]) -> int:
    return len(set(_without_mark(line).split()) & set(wanted))


def _delimiter(header: str, wanted: Collection[str]) -> str:
    named = _named(header, wanted)
    return max(DELIMITERS, key=lambda delimiter: (named[delimiter], len(_cells(header, delimiter))))


def _read_rows(reader: "_csv.Reader", table: Table, lines_above: int) -> None:
    while True:
        begin = lines_above + reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The csv module has words for its errors, but no types.
            too_long = "field larger than" in str(error)
            fault = f"cell of more than {csv.field_size_limit()} characters" if too_long else "not a line of CSV"
        else:
            if _swallows_rows(row, table):
                fault = "quote that is not closed, which swallows the rows after it"
            elif len(row) == len(table.header):
                table.rows.append(row)
                table.places.append(f"{table.name}:{begin}")
                continue
            elif not "".join(row).strip() and len(row) < 2:
                continue
            elif row[0].startswith("#") and lines_above + reader.line_num == begin:
                table.comments += 1
                continue
            else:
                fault = "wrong number of columns"
        # A quote that is not closed swallows the lines after it, and each of them was a row.
        last = lines_above + reader.line_num
        table.faults += [(fault, f"{table.name}:{line}") for line in range(begin, last + 1)]


def _swallows_rows(row: list[str], table: Table) -> bool:
    """Say whether a cell holds the rest of its own row, whole rows, and the first part of another.

    Two quotes that do not belong together leave such a row with the right number of columns. Then the cell has as many
    delimiters for each of its line ends as a row has; below three columns, honest text may have as many.
    """
    between = len(table.header) - 1
    return between >= 2 and any(
        ends and cell.count(table.delimiter) == ends * between for cell in row if (ends := cell.count("\n"))
    )


def _opened(path: Path, content: bytes | None) -> BinaryIO:
    return path.open("rb") if content is None else io.BytesIO(content)


def _refuse_signature(path: Path, content: bytes | None) -> None:
    with _opened(path, content) as file:
        start = file.read(max(map(len, _SIGNATURES)))
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            raise SurveyError(f"{path}: {what}")


def _undecodable(path: Path, content: bytes | None) -> str:
    """Return which byte of the file is the first that is not UTF-8."""
    before = 0
    with _opened(path, content) as file:
        for line in file:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                number = before + len(line[: error.start + 1].splitlines())
                return f"not UTF-8 text (byte 0x{line[error.start]:02x} in line {number})"
            before += len(line.splitlines())
    return "not UTF-8 text"
