"""Catalogues: CSV files joined into one table of rows, each with an id, a label, a position and features."""

import csv
import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.errors import SurveyError
from spacewarps.features import are_errors
from spacewarps.survey.audit import Audit

if TYPE_CHECKING:
    import _csv

# A spreadsheet or a careless reader turns a long id into a number, and loses its last digits.
# Digits around one bare "e" are no such number: an id of hexadecimal digits looks like that.
_ID_READ_AS_NUMBER = re.compile(r"[-+]?(\d+\.?\d*[eE]\+\d+|\d*\.\d+[eE]\d+|\d+\.0+)")
# These would break the lines of the sample table, or of a message.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# The sample table's own columns.
_RESERVED = frozenset({"id", "source", "split", "label", "ra", "dec"})
_NO_VALUE = frozenset({"", "nan", "null", "none", "na", "n/a", "--"})


@dataclass(frozen=True)
class Columns:
    """The catalogue's names for what every survey has; ``ra`` and ``dec`` are in degrees (ICRS)."""

    id: str = "id"
    label: str = "class"
    ra: str = "ra"
    dec: str = "dec"


class _Row(NamedTuple):
    """The cells of a row as text, and where it stands (``file:line``)."""

    cells: list[str]
    place: str


@dataclass
class _Table:
    """Rows as text, under one header; ``places`` says where each row stands (``file:line``).

    ``faults`` are the lines that do not fit the header: the reason and the place of each.
    """

    name: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)


def read_catalogue(path: Path, columns: Columns, features: list[str], audit: Audit) -> pd.DataFrame:
    """Read one CSV, or every CSV of a folder, into one table, sorted by id.

    Files with the same header are chunks of one table and stack; files with different headers join on the id, which
    is read as text. The table has the columns ``id``, ``label``, ``ra``, ``dec`` (degrees; NaN where the survey has
    no positions) and one float64 column for each of ``features`` (NaN where there is no number). Rows that cannot be
    used are left out and noted in ``audit``.

    Raises:
        SurveyError: a file is missing, empty or not a CSV with the columns that are needed, or ids were read as
            numbers by whatever wrote the file.
    """
    tables = _stack([_read_csv(file) for file in _catalogue_files(path)], columns.id)
    _check_columns(path, tables, columns, features)
    main = next(table for table in tables if columns.label in table.header)
    others = [table for table in tables if table is not main]
    audit.rows_in = len(main.rows) + len(main.faults)
    audit.details["catalogue"] = {table.name: {"rows": len(table.rows) + len(table.faults)} for table in tables}

    rows = _rows_by_id(main, columns.id, audit.left_out)
    partners: dict[str, dict[str, _Row]] = {}
    for table in others:
        ignored: dict[str, list[str]] = {}
        partners[table.name] = _rows_by_id(table, columns.id, ignored)
        audit.details["catalogue"][table.name] |= {
            "rows_without_partner": sum(1 for key in partners[table.name] if key not in rows),
            "rows_ignored": {reason: len(places) for reason, places in sorted(ignored.items())},
        }
    ids = []
    for key in sorted(rows):
        absent = next((name for name, there in partners.items() if key not in there), None)
        if absent is None:
            ids.append(key)
        else:
            audit.leave_out(f"no usable row in {absent}", f"{rows[key].place} ({key})")

    def column(name: str) -> list[str]:
        table = next(table for table in tables if name in table.header)
        there, position = rows if table is main else partners[table.name], table.header.index(name)
        return [there[key].cells[position].strip() for key in ids]

    labels = column(columns.label)
    ra, dec = np.full((2, len(ids)), np.nan)
    placed = np.ones(len(ids), dtype=bool)
    if any(columns.ra in table.header for table in tables):
        ra, dec = _numbers(column(columns.ra)), _numbers(column(columns.dec))
        placed = (np.abs(ra) <= 360) & (np.abs(dec) <= 90)
    label_faults = {label: _label_fault(label) for label in set(labels)}
    faults = [
        label_faults[label] or (None if usable else "no usable position")
        for label, usable in zip(labels, placed.tolist(), strict=True)
    ]
    for key, fault in zip(ids, faults, strict=True):
        if fault is not None:
            audit.leave_out(fault, f"{rows[key].place} ({key})")
    kept = np.array([fault is None for fault in faults], dtype=bool)

    samples = pd.DataFrame({"id": ids, "label": labels, "ra": ra, "dec": dec})[kept].reset_index(drop=True)
    audit.details["features"] = {}
    for name, error in zip(features, are_errors(features), strict=True):
        texts = column(name)
        values = _numbers(texts)
        unreadable = sum(texts[row].lower() not in _NO_VALUE for row in np.flatnonzero(kept & np.isnan(values)))
        samples[name] = values[kept]
        audit.details["features"][name] = _describe_feature(values[kept], error) | {"not_a_number": unreadable}
    return samples


def _catalogue_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".csv" and file.is_file())
        if not files:
            raise SurveyError(
                f"{path}: the folder holds no .csv file; point data.catalog at one CSV or a folder of them"
            )
        return files
    if not path.exists():
        raise SurveyError(f"{path}: no such file or folder; point data.catalog at one CSV or a folder of them")
    return [path]


def _read_csv(path: Path) -> _Table:
    try:
        # Bytes that are no text are met when the file is read, some lines ahead of the reader.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            table = _Table(path.name, [name.strip() for name in next(reader, [])])
            _read_rows(reader, table)
    except UnicodeDecodeError:
        raise SurveyError(f"{path}: not UTF-8 text after line {reader.line_num}; save it as a UTF-8 CSV") from None
    except csv.Error as error:
        raise SurveyError(f"{path}: line 1 is not a header of column names ({error})") from None
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror})") from None
    if not table.header:
        raise SurveyError(f"{path}: empty; a catalogue starts with a line of column names")
    repeated = [name for name, count in Counter(table.header).items() if count > 1]
    if repeated:
        raise SurveyError(f"{path}: column {_shown(repeated[0])} stands twice in the header; rename or remove one")
    if not table.rows and not table.faults:
        raise SurveyError(f"{path}: has a header but no rows")
    return table


def _read_rows(reader: "_csv.Reader", table: _Table) -> None:
    while True:
        before = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fault = "not a line of CSV"
        else:
            if len(row) == len(table.header):
                table.rows.append(row)
                table.places.append(f"{table.name}:{reader.line_num}")
                continue
            fault = "wrong number of columns"
            if not row:
                continue
        # A quote that is not closed swallows the lines after it, and each of them was a row.
        table.faults += [(fault, f"{table.name}:{line}") for line in range(before + 1, reader.line_num + 1)]


def _stack(tables: list[_Table], id_column: str) -> list[_Table]:
    """Join tables that have the same columns, in whatever order, end to end."""
    stacked: dict[frozenset[str], _Table] = {}
    for table in tables:
        if id_column not in table.header:
            raise SurveyError(f"{table.name}: {_no_column('id', id_column, table.header)}")
        first = stacked.setdefault(frozenset(table.header), _Table(table.name, table.header))
        if table.header == first.header:
            first.rows += table.rows
        else:
            order = [table.header.index(name) for name in first.header]
            first.rows += [[row[i] for i in order] for row in table.rows]
        first.places += table.places
        first.faults += table.faults
    return list(stacked.values())


def _check_columns(path: Path, tables: list[_Table], columns: Columns, features: list[str]) -> None:
    holders: dict[str, str] = {}
    wanted = {columns.label, columns.ra, columns.dec, *features}
    for table in tables:
        for name in table.header:
            if name in wanted and name in holders:
                raise SurveyError(
                    f"{path}: column {name!r} stands in both {holders[name]} and {table.name}; rename or remove one"
                )
            holders[name] = table.name
    if columns.label not in holders:
        raise SurveyError(f"{path}: {_no_column('label', columns.label, list(holders))}")
    if (columns.ra in holders) != (columns.dec in holders):
        lacking = columns.dec if columns.ra in holders else columns.ra
        raise SurveyError(f"{path}: there is no column {lacking!r}, but its partner is there; a position needs both")
    for name in features:
        if name in _RESERVED:
            raise SurveyError(
                f"{path}: data.features cannot hold {name!r}, a column of the sample table itself; rename the feature"
            )
        if name not in holders:
            near = difflib.get_close_matches(name, holders, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {_listed(holders)}"
            raise SurveyError(f"{path}: there is no column {name!r} for data.features; {hint}")


def _no_column(what: str, name: str, there: list[str]) -> str:
    return f"there is no {what} column {name!r}, only {_listed(there)}; rename it or set data.columns.{what}"


def _listed(names: Iterable[str]) -> str:
    """Return the first of ``names`` as text that stays on its line, whatever a damaged header holds."""
    return ", ".join(_shown(name) for name in islice(names, 12))


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}...")


def _rows_by_id(table: _Table, id_column: str, left_out: dict[str, list[str]]) -> dict[str, _Row]:
    """Return each usable row of ``table`` under its id; note the others in ``left_out``."""
    position = table.header.index(id_column)
    rows: dict[str, _Row] = {}
    again: dict[str, list[str]] = {}
    ambiguous: set[str] = set()
    for reason, place in table.faults:
        left_out.setdefault(reason, []).append(place)
    for cells, place in zip(table.rows, table.places, strict=True):
        key = cells[position].strip()
        if key.lower() in _NO_VALUE:
            left_out.setdefault("no id", []).append(place)
        elif _CONTROL_CHARACTER.search(key):
            left_out.setdefault("id with a control character", []).append(place)
        elif _ID_READ_AS_NUMBER.fullmatch(key):
            raise SurveyError(
                f"{place}: id {_shown(key)} was written as a number and may have lost digits; "
                "write the catalogue again with its ids as text"
            )
        elif key in rows:
            again.setdefault(key, []).append(f"{place} ({key})")
            if rows[key].cells != cells:
                ambiguous.add(key)
        else:
            rows[key] = _Row(cells, place)
    for key, places in again.items():
        reason = "repeated row"
        if key in ambiguous:
            # Which of the rows is right cannot be known.
            reason = "id of several rows that differ"
            places.append(f"{rows[key].place} ({key})")
            del rows[key]
        left_out.setdefault(reason, []).extend(places)
    return rows


def _label_fault(label: str) -> str | None:
    if label.lower() in _NO_VALUE:
        return "no label"
    return "label with a control character" if _CONTROL_CHARACTER.search(label) else None


def _numbers(texts: list[str]) -> NDArray[np.float64]:
    return np.array([_number(text) for text in texts], dtype=np.float64)


def _number(text: str) -> float:
    try:
        # Python alone reads 1_5 as 15.
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _describe_feature(values: NDArray[np.float64], error: bool) -> dict[str, int]:
    counts = {"missing": int(np.sum(~np.isfinite(values)))}
    if error:
        counts |= {"negative": int(np.sum(values < 0)), "zero": int(np.sum(values == 0))}
    return counts
