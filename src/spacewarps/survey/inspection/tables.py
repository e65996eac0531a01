"""The tables of a survey, column by column: what their cells are, how many are missing, which name stamps."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import catalogue_files
from spacewarps.survey.columns import habitual, positions_among
from spacewarps.survey.delimited import DELIMITERS, Table
from spacewarps.survey.inspection.stamp_names import StampNames
from spacewarps.survey.numbers import NO_VALUE, read_number
from spacewarps.survey.table_files import read_tables, text_head

#: Of a column with more, no value is counted, as it is no class.
MOST_VALUES = 100
# Columns that are held as text at a time, of formats that give some of them.
_AT_ONCE = 16
# Of the cells that are not missing, as many may be no numbers in a column of numbers.
MOST_UNREADABLE = 0.05
_NEARLY_A_NUMBER = re.compile(
    r"[<>~]?\s*[-+]?\d[\d.,]*([eEdD][-+]?\d+)?\s*((\+-|\+/-|\N{PLUS-MINUS SIGN}).*|[a-z%]{1,6})?"
)


@dataclass
class Column:
    """What the cells of one column are, as far as they were added."""

    name: str
    rows: int = 0
    missing: int = 0
    unreadable: int = 0
    finite: int = 0
    whole: int = 0
    first: str = ""
    values: Counter[str] = field(default_factory=Counter)
    matches: set[str] = field(default_factory=set)
    matches_with_band: set[str] = field(default_factory=set)
    #: Whether it holds one value a row; arrays, as some tables have, are of no use here.
    is_readable: bool = True

    def add(self, cells: Iterable[str], names: StampNames) -> None:
        """Count ``cells``, and those that name stamps."""
        for cell in map(str.strip, cells):
            self.rows += 1
            if cell.lower() in NO_VALUE:
                self.missing += 1
                continue
            self.first = self.first or cell
            if len(self.values) <= MOST_VALUES:
                self.values[cell] += 1
            number = read_number(cell)
            if number is None:
                self.unreadable += 1
            elif math.isfinite(number):
                self.finite += 1
                self.whole += number.is_integer()
            if names.has(cell):
                self.matches.add(cell)
            if names.has_bands(cell):
                self.matches_with_band.add(cell)

    @property
    def known(self) -> int:
        """How many cells are not missing."""
        return self.rows - self.missing

    @property
    def kind(self) -> str:
        """What the cells are, ``whole numbers``, ``numbers``, ``text``, ``arrays``, or ``empty``."""
        if not self.is_readable:
            return "arrays"
        if not self.known:
            return "empty"
        if self.unreadable > MOST_UNREADABLE * self.known:
            return "text"
        return "whole numbers" if 0 < self.finite == self.whole else "numbers"

    @property
    def is_number(self) -> bool:
        """Whether it can be a feature."""
        return self.kind in ("numbers", "whole numbers")

    @property
    def looks_like_numbers(self) -> bool:
        """Whether it holds text, but its first cell is a number with something else, as ``0,5`` or ``<0.1``."""
        return self.kind == "text" and bool(_NEARLY_A_NUMBER.fullmatch(self.first[:40]))

    @property
    def has_few_values(self) -> bool:
        """Whether all of its values were counted, and each stands in two rows or more on the average."""
        return 0 < len(self.values) <= MOST_VALUES and 2 * len(self.values) <= self.known


@dataclass
class Joined:
    """Files with the same columns, which are one table.

    Args:
        files: their names.
        columns: each column by its name, in the order of the first file.
    """

    files: list[str]
    columns: dict[str, Column]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return max(column.rows for column in self.columns.values())


def inspect_tables(path: Path, id_column: str | None, names: StampNames) -> list[Joined]:
    """Look at every row and column of the catalogue at ``path``, or of all in that folder.

    Args:
        path: one catalogue, or a folder of them.
        id_column: the column of the ids, where that is known: of a file with several tables, those that have it are
            meant.
        names: the names of the stamps.

    Raises:
        SurveyError: a file is missing, empty or no table.
    """
    joined: dict[frozenset[str], Joined] = {}
    for file in catalogue_files(path, Audit()):
        for number, table in enumerate(read_tables(file, _likely_names(file), id_column or "")):
            here = joined.setdefault(
                frozenset(table.columns), Joined([], {name: Column(name) for name in table.columns if name})
            )
            here.files.append(table.name)
            for part in [table] if table.delimiter else _parts(file, table, number, id_column or ""):
                for name, column in here.columns.items():
                    if name in part.header:
                        position = part.header.index(name)
                        column.add((row[position] for row in part.rows), names)
            if not table.rows and table.faults:
                reason, place = table.faults[0]
                raise SurveyError(f"{file}: no row can be read; {len(table.faults)} faults, first {reason} ({place})")
    for table_found in joined.values():
        for column in table_found.columns.values():
            column.is_readable = column.rows > 0
    return list(joined.values())


def _parts(file: Path, table: Table, number: int, id_column: str) -> Iterator[Table]:
    """Yield the table of ``file`` some columns at a time; columns of arrays stay away."""
    waiting = [table.columns[first : first + _AT_ONCE] for first in range(0, len(table.columns), _AT_ONCE)]
    faults: list[SurveyError] = []
    found = False
    while waiting:
        columns = waiting.pop(0)
        try:
            part = read_tables(file, columns, id_column)[number]
        except SurveyError as error:
            if len(columns) == 1:
                faults.append(error)
            else:
                half = len(columns) // 2
                waiting += [columns[:half], columns[half:]]
        else:
            found = True
            yield part
    if not found and faults:
        raise faults[0]


def _likely_names(file: Path) -> Collection[str]:
    """Return what looks like a column's name in the first lines of a text whose header may be a comment."""
    text = text_head(file)
    if "#" not in text or "\0" in text:
        return ()
    found: set[str] = set()
    for line in text.splitlines():
        for delimiter in DELIMITERS:
            cells = [cell.strip().strip('"') for cell in line.lstrip("# \t").split(delimiter)]
            found.update(habitual("id", cells), habitual("label", cells), positions_among(cells) or ())
        if line.strip() and not line.startswith("#"):
            break
    return found
