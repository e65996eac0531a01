"""Catalogues in Arrow's IPC format (Feather of version 2), as a file or as a stream."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

from spacewarps.survey.arrow_columns import cells_of_column, is_float, units_in
from spacewarps.survey.arrow_messages import describe_batch
from spacewarps.survey.delimited import Table
from spacewarps.survey.typed_tables import TableError, check_id, check_rows, table_of, wanted_columns

#: How a file begins, and how a stream does.
MAGIC, STREAM = b"ARROW1", b"\xff\xff\xff\xff"
# Behind the magic of a file follows a stream.
_BEFORE_THE_STREAM = 8
# Of one batch, unpacked: it is unpacked as a whole.
_LARGEST_BATCH = 2**29
# Of the columns that are read.
_MOST_BYTES = 2**31


def read_arrow(name: str, source: Path | bytes, wanted: Collection[str], id_column: str) -> list[Table]:
    """Return the table in ``source``.

    Raises:
        TableError: it is damaged, claims too much, or holds what no cell can be.
    """
    try:
        with pa.memory_map(str(source)) if isinstance(source, Path) else pa.BufferReader(source) as file:
            return [_read(name, file.read_buffer(), wanted, id_column)]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise TableError(f"damaged Arrow ({' '.join(str(error).split()):.120})") from None


def _read(name: str, content: pa.Buffer, wanted: Collection[str], id_column: str) -> Table:
    if content.slice(0, len(MAGIC)).to_pybytes() == MAGIC:
        if content.slice(max(0, content.size - len(MAGIC))).to_pybytes() != MAGIC:
            raise TableError("Arrow that was cut off")
        content = content.slice(_BEFORE_THE_STREAM)
    check_rows(_rows(content))
    with ipc.open_stream(content) as stream:
        schema = stream.schema
    chosen = wanted_columns(schema.names, wanted)
    for column in chosen:
        check_id(column, id_column, is_float(schema.field(column).type))
    cells: dict[str, list[str]] = {column: [] for column in chosen}
    if chosen:
        _read_cells(content, [schema.names.index(column) for column in chosen], cells)
    return table_of(name, schema.names, cells, units_in(schema))


def _rows(content: pa.Buffer) -> int:
    """Return how many rows the batches claim, none of which claims more than can be unpacked."""
    rows = 0
    for message in ipc.MessageReader.open_stream(content):
        batch = describe_batch(memoryview(message.metadata), memoryview(message.body or b""))
        if batch is None:
            continue
        if batch.unpacked > _LARGEST_BATCH:
            raise TableError(f"Arrow with a batch of more than {_LARGEST_BATCH:,} bytes; write it in smaller batches")
        rows += batch.rows
    return rows


def _read_cells(content: pa.Buffer, fields: list[int], cells: dict[str, list[str]]) -> None:
    size = 0
    with ipc.open_stream(content, options=ipc.IpcReadOptions(included_fields=fields)) as stream:
        for batch in stream:
            # Arrow believes the offsets of a file, and would read beyond it.
            batch.validate(full=True)
            size += batch.nbytes
            if size > _MOST_BYTES:
                raise TableError(f"unpacks to more than {_MOST_BYTES:,} bytes; is it damaged?")
            for column, found in cells.items():
                values = batch.column(column)
                # A short file can repeat a long text in every row.
                is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
                found += cells_of_column(column, values.dictionary_encode() if is_text else values)
