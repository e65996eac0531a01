"""Catalogues in VOTable, looked through before astropy reads them: XML can ask for files and endless memory."""

import io
import math
import re
import warnings
from collections.abc import Collection
from typing import Any
from xml.parsers import expat

import numpy as np
from astropy.io import votable

from spacewarps.survey.columns import shown
from spacewarps.survey.delimited import Table
from spacewarps.survey.typed_tables import TableError, cells_of, check_id, check_rows, table_of, wanted_columns

# Of one value, in memory.
_LARGEST_VALUE = 16
# Rows for which astropy makes room at least.
_ROWS_AT_ONCE = 512
_MOST_BYTES = 2**31
# Astropy computes the powers of ten that a unit has, with all of their digits.
_ENDLESS_UNIT = re.compile(r"(?<![.\d])\d{5,}|.{256,}", re.DOTALL)


def read_votables(name: str, content: bytes, wanted: Collection[str], id_column: str) -> list[Table]:
    """Return the tables in ``content`` that have the column ``id_column``, or the first if none has.

    Raises:
        TableError: it is no VOTable, asks for other files, claims too much, or a column that is needed holds arrays.
    """
    try:
        _Looked().through(content)
        with warnings.catch_warnings(action="ignore"):
            tables = list(votable.parse(io.BytesIO(content), verify="ignore").iter_tables())
    except (TableError, MemoryError):
        raise
    except Exception as error:
        # Damaged XML, and tables that do not hold what they say, fail in many ways.
        raise TableError(f"damaged VOTable ({' '.join(str(error).split()):.120})") from None
    if not tables:
        raise TableError("VOTable without a table")
    meant = [table for table in tables if id_column in _names(table)] or tables[:1]
    names = [name] if len(meant) == 1 else [f"{name}[{number}]" for number in range(1, len(meant) + 1)]
    return [_table(own, table, wanted, id_column) for own, table in zip(names, meant, strict=True)]


class _Looked:
    """Refuses what must not be read, element by element."""

    def __init__(self) -> None:
        self._is_first = True
        self._rows = self._claimed = 0
        self._width = 0

    def through(self, content: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._element
        parser.Parse(content, True)
        if max(self._rows, self._claimed, _ROWS_AT_ONCE) * self._width > _MOST_BYTES:
            raise TableError("VOTable that claims more rows or longer cells than can be read; is it damaged?")

    def _doctype(self, *_: Any) -> None:
        raise TableError("XML with a document type, whose entities can ask for other files; save it without")

    def _element(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if self._is_first and name != "VOTABLE":
            raise TableError(f"XML of {tag!r:.40}, not a VOTable")
        self._is_first = False
        if name == "FITS" or (name == "STREAM" and "href" in attributes):
            raise TableError("VOTable whose data are in another file, which is not fetched; save it in one piece")
        if _ENDLESS_UNIT.search(attributes.get("unit", "")):
            raise TableError(f"VOTable with the unit {shown(attributes['unit'])}, which is none; mend or remove it")
        if name == "TABLE":
            self._claimed += max(0, int(attributes.get("nrows", 0)))
        elif name == "FIELD":
            # What varies in length is made room for when it is there.
            sides = [side for side in attributes.get("arraysize", "1").split("x") if not side.endswith("*")]
            self._width += _LARGEST_VALUE * max(1, math.prod(map(int, sides)))
        elif name == "TR":
            self._rows += 1


def _names(table: Any) -> list[str]:
    return [field.name for field in table.fields]


def _table(name: str, table: Any, wanted: Collection[str], id_column: str) -> Table:
    names = _names(table)
    chosen = wanted_columns(names, wanted)
    check_rows(len(table.array))
    cells = {}
    for column in chosen:
        values = table.array[table.array.dtype.names[names.index(column)]]
        if values.ndim != 1:
            raise TableError(f"column {column!r:.80} holds arrays, where one value a row is needed")
        check_id(column, id_column, values.dtype.kind == "f")
        absent = np.ma.getmaskarray(values)
        known = np.ma.getdata(values).tolist()
        cells[column] = cells_of(column, (None if no else value for value, no in zip(known, absent, strict=True)))
    units = {field.name: None if field.unit is None else str(field.unit) for field in table.fields}
    return table_of(name, names, cells, units)
