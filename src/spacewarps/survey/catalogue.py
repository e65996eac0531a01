"""Catalogues: files of any format joined into one table of rows, each with an id, a label, a position and features."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.features import are_errors
from spacewarps.survey.audit import Audit
from spacewarps.survey.columns import Columns, habitual, listed, nearest, positions_among, shown
from spacewarps.survey.delimited import DELIMITERS, Table
from spacewarps.survey.feature_values import read_feature
from spacewarps.survey.labels import CONTROL_CHARACTER, read_labels
from spacewarps.survey.numbers import NO_VALUE
from spacewarps.survey.positions import read_positions
from spacewarps.survey.table_files import SUFFIXES, is_catalogue, is_other_text, read_tables
from spacewarps.survey.units import read_units

# A spreadsheet or a careless reader turns a long id into a number, and loses its last digits.
# Digits around one bare "e" are no such number: an id of hexadecimal digits looks like that.
_ID_READ_AS_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?[eE]\+\d+|\d*[.,]\d+[eE]\d+|\d+\.0+)")
#: The column of a table of samples that holds, as text, which row of an array of stamps is whose. No column of a
#: catalogue that is used may have such a name.
STAMP_INDEX = "\0index"
# The sample table's own columns.
_RESERVED = frozenset({"id", "source", "split", "label", "ra", "dec"})


class _Row(NamedTuple):
    """The cells of a row as text, and where it stands (``file:line``, or ``file:row 7``)."""

    cells: list[str]
    place: str


def read_catalogue(
    path: Path,
    columns: Columns,
    features: Sequence[str],
    audit: Audit,
    *,
    missing_codes: Mapping[str, Sequence[float]],
    max_bad_fraction: float,
    stamp_index: str | None = None,
) -> pd.DataFrame:
    """Read one catalogue, or every one of a folder, into one table, sorted by id.

    Files with the same columns are chunks of one table and stack; files with different columns join on the id, which
    is read as text, also where one holds it as an integer. The table has the columns ``id``, ``label`` (if the survey
    has labels), ``ra``, ``dec`` (degrees, whatever angle a file names as their unit; NaN where the survey has no
    positions) and one float64 column for each of ``features`` (NaN where there is no number), and :data:`STAMP_INDEX`
    where ``stamp_index`` names a column. Rows that cannot be used are left out and noted in ``audit``.

    Args:
        path: one catalogue (:func:`~spacewarps.survey.table_files.read_tables`), or a folder of them.
        columns: the catalogue's names for id, label and position.
        features: the columns of numbers that are wanted.
        audit: what is left out, and what the user should know, goes there.
        missing_codes: for each feature that has some, the values that mean that there is none.
        max_bad_fraction: the largest share of a feature's values that may be no numbers.
        stamp_index: the column that says which row of an array of stamps is whose.

    Raises:
        SurveyError: a file is missing, empty or no table with the columns that are needed; ids were read as numbers
            by whatever wrote the file; one class is spelled as two numbers; too much of a feature is no number; a
            position has a unit that is no angle, or a feature has two.
    """
    named = (columns.id, columns.label, columns.ra, columns.dec, stamp_index, *features)
    wanted = {name for name in named if name is not None}
    chunks = [table for file in catalogue_files(path, audit) for table in read_tables(file, wanted, columns.id)]
    _note_oddities(chunks, audit)
    read_units(chunks, columns.positions or (), features, audit)
    tables = _stack(chunks, columns.id)
    _check_columns(path, tables, columns, features, stamp_index)
    main = _main_table(tables, columns, features)
    others = [table for table in tables if table is not main]
    audit.rows_in = len(main.rows) + len(main.faults)
    audit.details["catalogue"] = {table.name: {"rows": len(table.rows) + len(table.faults)} for table in tables}

    rows = _rows_by_id(main, columns.id, wanted, audit.left_out)
    partners: dict[str, dict[str, _Row]] = {}
    for table in others:
        ignored: dict[str, list[str]] = {}
        partners[table.name] = _rows_by_id(table, columns.id, wanted, ignored)
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

    def holder(name: str) -> tuple[Table, dict[str, _Row]]:
        table = next(table for table in tables if name in table.header)
        return table, rows if table is main else partners[table.name]

    def column(name: str) -> list[str]:
        table, there = holder(name)
        position = table.header.index(name)
        return [there[key].cells[position] for key in ids]

    ra, dec = np.full((2, len(ids)), np.nan)
    faults: list[str | None] = [None] * len(ids)
    if columns.ra is not None and columns.dec is not None:
        ra, dec, faults = read_positions(column(columns.ra), column(columns.dec))
    labels = None if columns.label is None else read_labels(column(columns.label))
    if labels is not None:
        faults = [of_label or fault for of_label, fault in zip(labels.faults, faults, strict=True)]
    for key, fault in zip(ids, faults, strict=True):
        if fault is not None:
            audit.leave_out(fault, f"{rows[key].place} ({key})")
    kept = [row for row, fault in enumerate(faults) if fault is None]
    if labels is not None:
        labels.check(kept, [rows[key].place for key in ids], audit)

    texts_of = {"id": ids} if labels is None else {"id": ids, "label": labels.names}
    if stamp_index is not None:
        texts_of[STAMP_INDEX] = column(stamp_index)
    samples = pd.DataFrame({**texts_of, "ra": ra, "dec": dec}).iloc[kept].reset_index(drop=True)
    audit.details["features"] = {}
    values = {}
    for name, is_error in zip(features, are_errors(features), strict=True):
        texts, there = column(name), holder(name)[1]
        values[name] = read_feature(
            name,
            [texts[row] for row in kept],
            [there[ids[row]].place for row in kept],
            is_error=is_error,
            codes=missing_codes.get(name, ()),
            max_bad_fraction=max_bad_fraction,
            audit=audit,
        )
    return pd.concat([samples, pd.DataFrame(values, index=samples.index)], axis=1)


def catalogue_files(path: Path, audit: Audit) -> list[Path]:
    """Return the catalogue at ``path``, or those of the folder there; what is not read is noted in ``audit``.

    Raises:
        SurveyError: there is none, or something of a catalogue's name that cannot be read.
    """
    if not path.exists():
        raise SurveyError(f"{path}: no such file or folder; point `catalog` at one catalogue or a folder of them")
    if not path.is_dir():
        return [path]
    listing = sorted(file for file in path.iterdir() if is_catalogue(file.name))
    # What a file system or a spreadsheet puts beside a file of the same name.
    beside = [file.name for file in listing if file.name.startswith((".", "~$"))]
    if beside:
        audit.notes.append(f"hidden or temporary, so not read: {_first_of(beside)}")
    files = [file for file in listing if file.name not in beside]
    for file in files:
        # A chunk that went away must not go unnoticed.
        if not file.is_file():
            what = "a folder" if file.is_dir() else "not a file" if file.exists() else "a link to nothing"
            raise SurveyError(f"{file}: {what} among the catalogues; put the file there or take this away")
    other = [file for file in files if is_other_text(file)]
    if other:
        audit.notes.append(f"text without a table, so not read: {_first_of([file.name for file in other])}")
    files = [file for file in files if file not in other]
    if not files:
        raise SurveyError(
            f"{path}: the folder holds no catalogue ({', '.join(SUFFIXES)}); point `catalog` at one or a folder of them"
        )
    return files


def _note_oddities(tables: Sequence[Table], audit: Audit) -> None:
    """Note what was understood of files that are not plain CSVs."""
    for delimiter, what in DELIMITERS.items():
        names = [table.name for table in tables if table.delimiter == delimiter != ","]
        if names:
            audit.notes.append(f"separated by {what}: {_first_of(names)}")
    windows = [table.name for table in tables if table.is_windows]
    if windows:
        audit.notes.append(f"not UTF-8, so read as Windows-1252 (Latin-1): {_first_of(windows)}; check its names")
    commented = [table for table in tables if table.comments]
    if commented:
        lines = sum(table.comments for table in commented)
        names = [table.name for table in commented]
        audit.notes.append(f"lines that begin with # and were taken for comments: {lines} in {_first_of(names)}")


def _first_of(names: Sequence[str]) -> str:
    return shown(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _stack(tables: list[Table], id_column: str) -> list[Table]:
    """Join tables that have the same columns, in whatever order, end to end."""
    stacked: dict[frozenset[str], Table] = {}
    for table in tables:
        if id_column not in table.columns:
            raise SurveyError(f"{table.name}: {_no_column('id', id_column, table.columns)}")
        new = Table(table.name, table.header, table.delimiter, columns=table.columns)
        first = stacked.setdefault(frozenset(table.columns), new)
        if table.header == first.header:
            first.rows += table.rows
        else:
            # A column that was read in one of them only is one that nobody needs.
            order = [table.header.index(name) if name in table.header else None for name in first.header]
            first.rows += [["" if i is None else row[i] for i in order] for row in table.rows]
        first.places += table.places
        first.faults += table.faults
    return list(stacked.values())


def _check_columns(
    path: Path, tables: list[Table], columns: Columns, features: Sequence[str], stamp_index: str | None
) -> None:
    holders: dict[str, str] = {}
    wanted = {columns.label, columns.ra, columns.dec, stamp_index, *features}
    for table in tables:
        for name in table.columns:
            if name in wanted and name in holders:
                raise SurveyError(
                    f"{path}: column {name!r} stands in both {holders[name]} and {table.name}; rename or remove one"
                )
            holders[name] = table.name
    there = list(holders)
    if columns.label is not None and columns.label not in holders:
        raise SurveyError(f"{path}: {_no_column('label', columns.label, there)}")
    _check_positions(path, there, columns)
    if stamp_index is not None and stamp_index not in [*holders, columns.id]:
        near = nearest(stamp_index, there)
        hint = f"did you mean {shown(near)}?" if near else f"there are {listed(there)}"
        raise SurveyError(f"{path}: there is no column {shown(stamp_index)} for `stamp_index`; {hint}")
    for name in features:
        if name in _RESERVED:
            raise SurveyError(
                f"{path}: `features` cannot hold {name!r}, a column of the sample table itself; rename the feature"
            )
        if not name or not name.isprintable():
            raise SurveyError(f"{path}: `features` cannot hold {shown(name)}, which is no name; rename the column")
        if name not in holders:
            near = nearest(name, there)
            hint = f"did you mean {shown(near)}?" if near else f"there are {listed(there)}"
            raise SurveyError(f"{path}: there is no column {name!r} for `features`; {hint}")


def _check_positions(path: Path, there: list[str], columns: Columns) -> None:
    """Refuse named columns that are absent, and positions that are there and have no name."""
    alike = positions_among(there)
    look = f"{shown(alike[0])} and {shown(alike[1])} look like positions" if alike else ""
    name_them = "set `columns.ra` and `columns.dec` to their names"
    if columns.ra is None or columns.dec is None:
        # What is only to be classified has no splits that its sources could straddle.
        if alike and columns.label is not None:
            raise SurveyError(
                f"{path}: `columns.ra` and `columns.dec` are null, but {look}; {name_them}, or rename the columns"
            )
        return
    absent = [name for name in (columns.ra, columns.dec) if name not in there]
    if not absent:
        return
    if alike:
        hint = f"but {look}; {name_them} if they are degrees"
    else:
        near = nearest(absent[0], there)
        hint = (
            f"{f'did you mean {shown(near)}?' if near else f'only {listed(there)};'} name it in `columns`, or set "
            "`columns.ra` and `columns.dec` to null if the survey has no positions"
        )
    raise SurveyError(f"{path}: there is no column {' and no column '.join(map(shown, absent))} for positions, {hint}")


def _no_column(what: str, name: str, there: list[str]) -> str:
    near = nearest(name, there) or next(iter(habitual(what, there)), None)
    hint = f"did you mean {shown(near)}? " if near else ""
    return f"there is no {what} column {name!r}, only {listed(there)}; {hint}rename it or set `columns.{what}`"


def _main_table(tables: Sequence[Table], columns: Columns, features: Sequence[str]) -> Table:
    """Return the table whose rows are the samples: that of the labels; without, that of positions or features."""
    telling = next((name for name in (columns.label, columns.ra, *features) if name is not None), columns.id)
    return next(table for table in tables if telling in table.header)


def _rows_by_id(
    table: Table, id_column: str, wanted: Collection[str], left_out: dict[str, list[str]]
) -> dict[str, _Row]:
    """Return each usable row of ``table`` under its id; note the others in ``left_out``.

    Rows of one id are the same row if the columns ``wanted`` of them hold the same; nobody reads the others.
    """
    position = table.header.index(id_column)
    read = [number for number, name in enumerate(table.header) if name in wanted and name != id_column]
    rows: dict[str, _Row] = {}
    again: dict[str, list[str]] = {}
    ambiguous: set[str] = set()
    for reason, place in table.faults:
        left_out.setdefault(reason, []).append(place)
    for row, place in zip(table.rows, table.places, strict=True):
        cells = [cell.strip() for cell in row]
        # Catalogues that were written on different systems differ in the form of their accents alone.
        key = unicodedata.normalize("NFC", cells[position])
        if key.lower() in NO_VALUE:
            left_out.setdefault("no id", []).append(place)
        elif CONTROL_CHARACTER.search(key):
            left_out.setdefault("id with a control character", []).append(place)
        elif _ID_READ_AS_NUMBER.fullmatch(key):
            raise SurveyError(
                f"{place}: id {shown(key)} was written as a number, as spreadsheets do with long ids and pandas where "
                "one is missing, and may have lost digits; write the catalogue again with its ids as text"
            )
        elif key in rows:
            again.setdefault(key, []).append(f"{place} ({key})")
            if any(rows[key].cells[number] != cells[number] for number in read):
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
