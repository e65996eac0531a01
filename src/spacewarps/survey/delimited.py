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
from spacewarps.survey.described_columns import ECSV, DescriptionError, units_described
from spacewarps.survey.encodings import WINDOWS, EncodingError, check_windows, marked_encoding
from spacewarps.survey.spaced import SpacedRows, cells_of_line

if TYPE_CHECKING:
    import _csv

    _Reader = _csv.Reader | SpacedRows

SPACES = " "
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", SPACES: "spaces"}
_ONE_CHARACTER = [delimiter for delimiter in DELIMITERS if delimiter != SPACES]
# No line of a catalogue is as long; a file without lines must not fill memory.
_LONGEST_LINE = 2**24
# What a spreadsheet reads in the first line as the delimiter of the rest.
_SPREADSHEETS_WORD = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE)
# How files begin that somebody may take for a catalogue.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive or a spreadsheet, not text; save it as a UTF-8 CSV",
    b"\x89HDF": "an HDF5 file, not text; save its table as FITS, Parquet or a UTF-8 CSV",
    b"FEA1": "Feather of version 1, not text; save its table as Arrow, Parquet or a UTF-8 CSV",
    b"version https://git-lfs": "a pointer of Git LFS, not the catalogue; fetch it with git lfs pull",
    b"<!DOCTYPE": "an HTML page or XML, not a table; fetch it again, or save it as a VOTable without a document type",
}


@dataclass
class Table:
    """Rows as text, under one header; ``places`` says where each row begins (``file:line``).

    ``faults`` are the lines that do not fit the header: the reason and the place of each. ``comments`` counts the lines
    that begin with ``#`` and are neither header nor row. ``columns`` are the names of all columns in the file, where
    only those of ``header`` were read. ``is_windows`` says that the text is not UTF-8, and was read as Windows-1252.
    ``units`` are those that the file names, by column, in its words.
    """

    name: str
    header: list[str]
    delimiter: str
    rows: list[list[str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    comments: int = 0
    columns: list[str] = field(default_factory=list)
    is_windows: bool = False
    units: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = self.columns or self.header


def read_table(path: Path, wanted: Collection[str], content: bytes | None = None) -> Table:
    """Read the table in ``path``, or in ``content``, which was packed there.

    The header is the first line that is no comment, or a comment above it that names more columns of ``wanted``. Its
    delimiter is the one of ``DELIMITERS`` that finds most of ``wanted`` there. Its encoding is that of a byte-order
    mark, or UTF-8, or Windows-1252 if it cannot be UTF-8.

    Raises:
        SurveyError: ``path`` is not a regular file of text with a header and rows, or may be read in several ways.
    """
    try:
        check_file(path)
        table = _read_encoded(path, content, wanted)
    except DescriptionError as error:
        raise SurveyError(f"{path}: {error}") from None
    except EncodingError as error:
        raise SurveyError(f"{path}: {error}; save it as a UTF-8 CSV") from None
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror})") from None
    repeated = [name for name, count in Counter(table.header).items() if count > 1 and name]
    if repeated:
        raise SurveyError(f"{path}: column {shown(repeated[0])} appears twice in the header; rename or remove one")
    if not table.rows and not table.faults:
        raise SurveyError(f"{path}: has a header but no rows")
    return table


def _read_encoded(path: Path, content: bytes | None, wanted: Collection[str]) -> Table:
    marked = _encoding(path, content)
    try:
        return _read_as(marked or "utf-8", path, content, wanted)
    except UnicodeDecodeError as error:
        if marked:
            raise EncodingError(f"{error.encoding.upper()} text that is damaged or was cut off") from None
    with _opened(path, content) as file:
        check_windows(iter(lambda: file.readline(_LONGEST_LINE), b""))
    table = _read_as(WINDOWS, path, content, wanted)
    table.is_windows = True
    return table


def _read_as(encoding: str, path: Path, content: bytes | None, wanted: Collection[str]) -> Table:
    with io.TextIOWrapper(_opened(path, content), encoding=encoding, newline="") as file:
        return _read(path, file, wanted)


def _read(path: Path, file: TextIO, wanted: Collection[str]) -> Table:
    lines = _lines(path, file)
    above: list[str] = []
    first = next(lines, "")
    while first and (not first.strip() or first.startswith("#") or _SPREADSHEETS_WORD.fullmatch(first)):
        above.append(first)
        first = next(lines, "")
    comments = [line for line in above if line.startswith("#")]
    # Of lines that name as many columns this is the first in the list, so a comment has to be the better header.
    header = max([first, *comments], key=lambda line: _most_named(line, first, wanted))
    if not header:
        raise SurveyError(f"{path}: empty; a catalogue starts with a line of column names")
    if "\0" in header:
        raise SurveyError(
            f"{path}: its header holds NUL characters, so it is UTF-16 or no text; save it as a UTF-8 CSV"
        )
    commented = header is not first
    delimiter = _delimiter(path, header, wanted)
    source = chain([_without_mark(header)], [first] if commented else [], lines)
    if delimiter == SPACES:
        reader: _Reader = SpacedRows(source)
    else:
        reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise SurveyError(f"{path}: line {len(above) + 1} is not a header of column names ({error})") from None
    table = Table(path.name, names, delimiter, comments=len(comments) - commented)
    if above and above[0].startswith(ECSV):
        described = units_described("".join(line[1:].removeprefix(" ") for line in comments[1:]))
        table.units = {name: unit for name, unit in described.items() if name in names}
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


def _most_named(line: str, first: str, wanted: Collection[str]) -> int:
    """Return how many columns a header finds at most, if ``first`` is it or the first row below it."""
    named = _named(line, wanted)
    # Words of a sentence may be names of columns, but not as many as the row has cells.
    if len(_cells(line, SPACES)) != len(_cells(first, SPACES)):
        del named[SPACES]
    return max(named.values())


def _cells(line: str, delimiter: str) -> list[str]:
    line = _without_mark(line)
    try:
        if delimiter == SPACES:
            return cells_of_line(line)
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _delimiter(path: Path, header: str, wanted: Collection[str]) -> str:
    named = _named(header, wanted)
    best = max(_ONE_CHARACTER, key=lambda delimiter: (named[delimiter], len(_cells(header, delimiter))))
    is_alone = len(_cells(header, best)) < 2
    if named[SPACES] > named[best] and not is_alone:
        raise SurveyError(
            f"{path}: its header is separated by spaces as well as by {DELIMITERS[best]}; save it as a CSV, separated "
            "by commas"
        )
    by_spaces = named[SPACES] > named[best] or (not named[best] and len(_cells(header, SPACES)) > 1)
    return SPACES if is_alone and by_spaces else best


def looks_like_table(text: str) -> bool:
    """Say whether the first two lines of ``text`` that are no comments have as many cells, two or more."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")][:2]
    return len(lines) == 2 and any(
        len(_cells(lines[0], delimiter)) == len(_cells(lines[1], delimiter)) > 1 for delimiter in DELIMITERS
    )


def _read_rows(reader: "_Reader", table: Table, lines_above: int) -> None:
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
            # Among spaces a comment may have as many words as a row has cells.
            if table.delimiter == SPACES and row and row[0].startswith("#"):
                table.comments += 1
                continue
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


def _encoding(path: Path, content: bytes | None) -> str | None:
    """Return the encoding that the file's mark names, if it has one and is not known to be no text."""
    with _opened(path, content) as file:
        start = file.read(max(map(len, _SIGNATURES)))
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            raise SurveyError(f"{path}: {what}")
    return marked_encoding(start)
