"""Catalogues: CSV files joined into one table of rows, each with an id, a label, a position and features."""

import csv
import difflib
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.errors import SurveyError
from spacewarps.features import are_errors
from spacewarps.survey.audit import Audit

# A spreadsheet or a careless reader turns a long id into a number, and loses its last digits.
_ID_READ_AS_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE]\+?\d+|\d+\.0+")
_NO_VALUE = frozenset({"", "nan", "null", "none", "na", "n/a", "--"})


@dataclass(frozen=True)
class Columns:
    """The catalogue's names for what every survey has; ``ra`` and ``dec`` are in degrees (ICRS)."""

    id: str = "id"
    label: str = "class"
    ra: str = "ra"
    dec: str = "dec"


@dataclass
class _Table:
    """Rows as text, under one header; ``places`` says where each row stands (``file:line``)."""

    name: str
    header: list[str]
    rows: list[list[str]]
    places: list[str]


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
    audit.rows_in = len(main.rows)
    audit.details["catalogue"] = {table.name: {"rows": len(table.rows)} for table in tables}

    rows = _rows_by_id(main, columns.id, audit.left_out)
    joined = dict.fromkeys(main.header, main) | {name: table for table in others for name in table.header}
    found: dict[int, dict[str, list[str]]] = {id(main): {key: row for key, (row, _) in rows.items()}}
    for table in others:
        ignored: dict[str, list[str]] = {}
        partners = _rows_by_id(table, columns.id, ignored)
        found[id(table)] = {key: row for key, (row, _) in partners.items()}
        audit.details["catalogue"][table.name] |= {
            "rows_without_partner": sum(1 for key in partners if key not in rows),
            "rows_ignored": {reason: len(places) for reason, places in sorted(ignored.items())},
        }

    has_positions = columns.ra in joined
    kept: list[tuple[str, str, float, float]] = []
    values: list[list[float]] = []
    unreadable: Counter[str] = Counter()

    def cell(key: str, column: str) -> str:
        table = joined[column]
        return found[id(table)][key][table.header.index(column)].strip()

    for key in sorted(rows):
        place = f"{rows[key][1]} ({key})"
        absent = [table.name for table in others if key not in found[id(table)]]
        if absent:
            audit.leave_out(f"not in {absent[0]}", place)
            continue
        label = cell(key, columns.label)
        if label.lower() in _NO_VALUE:
            audit.leave_out("no label", place)
            continue
        ra, dec = math.nan, math.nan
        if has_positions:
            ra, dec = _number(cell(key, columns.ra)), _number(cell(key, columns.dec))
            if not (-360 <= ra <= 360 and -90 <= dec <= 90):
                audit.leave_out("no usable position", place)
                continue
        numbers = []
        for name in features:
            text = cell(key, name)
            number = _number(text)
            unreadable[name] += math.isnan(number) and text.lower() not in _NO_VALUE
            numbers.append(number)
        kept.append((key, label, ra, dec))
        values.append(numbers)

    samples = pd.DataFrame(kept, columns=["id", "label", "ra", "dec"])
    numbers_of = np.array(values, dtype=np.float64).reshape(len(kept), len(features))
    for position, name in enumerate(features):
        samples[name] = numbers_of[:, position]
    audit.details["features"] = {
        name: _describe_feature(samples[name].to_numpy(), error) | {"not_a_number": unreadable[name]}
        for name, error in zip(features, are_errors(features), strict=True)
    }
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
    rows: list[list[str]] = []
    places: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row:
                    rows.append(row)
                    places.append(f"{path.name}:{reader.line_num}")
    except UnicodeDecodeError as error:
        raise SurveyError(f"{path}: not UTF-8 text (byte {error.start}); save the catalogue as UTF-8 CSV") from None
    except csv.Error as error:
        raise SurveyError(f"{path}, line {reader.line_num}: not a CSV ({error})") from None
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror})") from None
    if not header:
        raise SurveyError(f"{path}: empty; a catalogue starts with a line of column names")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise SurveyError(f"{path}: column {repeated[0]!r} stands twice in the header; rename or remove one")
    if not rows:
        raise SurveyError(f"{path}: has a header but no rows")
    return _Table(path.name, header, rows, places)


def _stack(tables: list[_Table], id_column: str) -> list[_Table]:
    """Join tables that have the same columns, in whatever order, end to end."""
    stacked: dict[frozenset[str], _Table] = {}
    for table in tables:
        if id_column not in table.header:
            raise SurveyError(f"{table.name}: {_no_column('id', id_column, table.header)}")
        first = stacked.setdefault(frozenset(table.header), _Table(table.name, table.header, [], []))
        order = [table.header.index(name) for name in first.header]
        width = len(table.header)
        # A row of the wrong length keeps it, so that it is recognised and counted later.
        first.rows += [[row[i] for i in order] if len(row) == width else row for row in table.rows]
        first.places += table.places
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
        if name not in holders:
            near = difflib.get_close_matches(name, holders, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(holders)}"
            raise SurveyError(f"{path}: there is no column {name!r} for data.features; {hint}")


def _no_column(what: str, name: str, there: list[str]) -> str:
    return f"there is no {what} column {name!r}, only {', '.join(there[:12])}; rename it or set data.columns.{what}"


def _rows_by_id(table: _Table, id_column: str, left_out: dict[str, list[str]]) -> dict[str, tuple[list[str], str]]:
    """Return each usable row of ``table`` and its place under its id; note the others in ``left_out``."""
    position = table.header.index(id_column)
    width = len(table.header)
    seen: dict[str, tuple[list[str], str]] = {}
    ambiguous: set[str] = set()
    for row, place in zip(table.rows, table.places, strict=True):
        if len(row) != width:
            left_out.setdefault("wrong number of columns", []).append(place)
            continue
        key = row[position].strip()
        if key.lower() in _NO_VALUE:
            left_out.setdefault("no id", []).append(place)
        elif _ID_READ_AS_NUMBER.fullmatch(key):
            raise SurveyError(
                f"{place}: id {key!r} was written as a number and may have lost digits; "
                "write the catalogue again with its ids as text"
            )
        elif key in seen:
            if seen[key][0] == row:
                left_out.setdefault("repeated row", []).append(f"{place} ({key})")
            else:
                ambiguous.add(key)
                left_out.setdefault("id of several rows that differ", []).append(f"{place} ({key})")
        else:
            seen[key] = (row, place)
    for key in ambiguous:
        # Which of the rows is right cannot be known.
        left_out["id of several rows that differ"].append(f"{seen.pop(key)[1]} ({key})")
    return seen


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _describe_feature(values: NDArray[np.float64], error: bool) -> dict[str, int]:
    counts = {"missing": int(np.sum(~np.isfinite(values)))}
    if error:
        counts |= {"negative": int(np.sum(values < 0)), "zero": int(np.sum(values == 0))}
    return counts
