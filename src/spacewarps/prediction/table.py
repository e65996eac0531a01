"""The table of predictions: one row a sample, as CSV or Parquet, written part by part."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spacewarps.errors import ParamsError
from spacewarps.formulas import table_as_text

Append = Callable[[pd.DataFrame], None]


def check_name(path: Path) -> None:
    """Check that the name of a table says what it is.

    Raises:
        ParamsError: it ends in neither .csv nor .parquet.
    """
    if path.suffix.lower() not in _WRITERS:
        raise ParamsError(f"{path}: a table of predictions is written as {' or '.join(_WRITERS)}; name it so")


@contextmanager
def written_table(path: Path, kind: Path) -> Iterator[Append]:
    """Give a function that appends rows to a new table at ``path``, of the format that the suffix of ``kind`` names.

    In a CSV a truth value is 1 or 0, as spreadsheets and other programs write it in many ways, and what would be a
    formula is text (:func:`~spacewarps.formulas.as_text`).
    """
    with _WRITERS[kind.suffix.lower()](path) as append:
        yield append


@contextmanager
def _csv(path: Path) -> Iterator[Append]:
    with path.open("w", encoding="utf-8", newline="") as file:
        is_new = True

        def append(rows: pd.DataFrame) -> None:
            nonlocal is_new
            truth = rows.select_dtypes("bool").columns
            numbered = table_as_text(rows.astype(dict.fromkeys(truth, "int8")))
            numbered.to_csv(file, index=False, header=is_new, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
            is_new = False

        yield append


@contextmanager
def _parquet(path: Path) -> Iterator[Append]:
    writer: pq.ParquetWriter | None = None

    def append(rows: pd.DataFrame) -> None:
        nonlocal writer
        table = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield append
    finally:
        if writer is not None:
            writer.close()


_WRITERS = {".csv": _csv, ".parquet": _parquet}
