"""Catalogues in FITS: the tables, binary or of text, in its extensions."""

import io
import math
import mmap
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from spacewarps.survey.delimited import Table
from spacewarps.survey.fits_blocks import FitsError, check_header, hdus_in
from spacewarps.survey.typed_tables import TableError, cells_of, check_id, check_rows, table_of, wanted_columns

_TABLES = ("BINTABLE", "TABLE")


def read_fits_tables(name: str, source: Path | bytes, wanted: Collection[str], id_column: str) -> list[Table]:
    """Return the tables in ``source`` that have the column ``id_column``, or the first if none has.

    Raises:
        TableError: it is damaged, has no table, or a column that is needed holds arrays.
    """
    try:
        # Astropy warns of what is odd in a file; what cannot be used is refused.
        with warnings.catch_warnings(action="ignore"):
            if isinstance(source, Path):
                with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    return _read(name, source, content, wanted, id_column)
            return _read(name, io.BytesIO(source), source, wanted, id_column)
    except (TableError, MemoryError):
        raise
    except FitsError as error:
        raise TableError(str(error)) from None
    except Exception as error:
        # A damaged table fails in as many ways as there are columns.
        raise TableError(f"damaged FITS ({' '.join(str(error).split()):.120})") from None


def _read(name: str, source: Path | BinaryIO, content: Any, wanted: Collection[str], id_column: str) -> list[Table]:
    check_header(content, 0)
    with fits.open(source, lazy_load_hdus=True, disable_image_compression=True) as file:
        hdus = [hdu for hdu in hdus_in(file, content) if str(hdu.header.get("XTENSION", "")).strip() in _TABLES]
        if not hdus:
            raise TableError("FITS without a table; if it is a stamp, point `catalog` at the catalogue itself")
        meant = [hdu for hdu in hdus if id_column in hdu.columns.names] or hdus[:1]
        names = [name] if len(meant) == 1 else [f"{name}[{number}]" for number in range(1, len(meant) + 1)]
        return [_table(own, hdu, len(content), wanted, id_column) for own, hdu in zip(names, meant, strict=True)]


def _table(name: str, hdu: Any, length: int, wanted: Collection[str], id_column: str) -> Table:
    header = hdu.header
    check_rows(header["NAXIS2"])
    size = math.prod(header[f"NAXIS{axis}"] for axis in range(1, header["NAXIS"] + 1)) + header.get("PCOUNT", 0)
    if header["NAXIS1"] < 1 or hdu.fileinfo()["datLoc"] + size > length:
        raise TableError("FITS that was cut off")
    names = hdu.columns.names
    chosen = wanted_columns(names, wanted)
    cells = {}
    for column in chosen:
        number = names.index(column)
        values, definition = hdu.data.field(number), hdu.columns[number]
        if values.ndim != 1 or values.dtype.kind == "O":
            raise TableError(f"column {column!r:.80} holds arrays, where one value a row is needed")
        check_id(column, id_column, values.dtype.kind == "f")
        cells[column] = cells_of(column, _without_nulls(values, definition))
    return table_of(name, names, cells, dict(zip(names, hdu.columns.units, strict=True)))


def _without_nulls(values: Any, definition: Any) -> list[Any]:
    """Return the values of a column; None where it holds the integer that means that there is none."""
    found: list[Any] = np.asarray(values).tolist()
    if definition.null in (None, "") or values.dtype.kind not in "iu":
        return found
    null = int(definition.null) + int(definition.bzero or 0)
    return [None if value == null else value for value in found]
