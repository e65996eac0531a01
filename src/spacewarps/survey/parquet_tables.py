"""Catalogues in Parquet, of which only the columns that are needed are read."""

from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from spacewarps.survey.arrow_columns import cells_of_column, is_float, units_in
from spacewarps.survey.delimited import Table
from spacewarps.survey.typed_tables import TableError, check_id, check_rows, table_of, wanted_columns

_ROWS_AT_ONCE = 65_536
# Of the columns that are read, unpacked; a small file can unpack to any number.
_MOST_BYTES = 2**31


def read_parquet(name: str, source: Path | BinaryIO, wanted: Collection[str], id_column: str) -> list[Table]:
    """Return the table in ``source``.

    Raises:
        TableError: it is damaged, or holds what no cell can be.
    """
    try:
        with pq.ParquetFile(source, read_dictionary=_texts(source, wanted)) as file:
            schema = file.schema_arrow
            chosen = wanted_columns(schema.names, wanted)
            check_rows(file.metadata.num_rows)
            for column in chosen:
                check_id(column, id_column, is_float(schema.field(column).type))
            cells: dict[str, list[str]] = {column: [] for column in chosen}
            size = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=chosen) if chosen else ():
                # Arrow believes a damaged file which entry of a dictionary is meant.
                batch.validate(full=True)
                size += batch.nbytes
                if size > _MOST_BYTES:
                    raise TableError(f"unpacks to more than {_MOST_BYTES:,} bytes; is it damaged?")
                for column in chosen:
                    cells[column] += cells_of_column(column, batch.column(column))
            return [table_of(name, schema.names, cells, units_in(schema))]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise TableError(f"damaged Parquet ({' '.join(str(error).split()):.120})") from None


def _texts(source: Path | BinaryIO, wanted: Collection[str]) -> list[str]:
    """Return the columns of text, which stay dictionaries: a short file can repeat a long text in every row."""
    with pq.ParquetFile(source) as file:
        found = [field.name for field in file.schema_arrow if pa.types.is_string(field.type) and field.name in wanted]
    if not isinstance(source, Path):
        source.seek(0)
    return found
