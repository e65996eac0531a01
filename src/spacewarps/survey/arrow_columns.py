"""Columns of Arrow's types as text, wherever they were read from."""

import pyarrow as pa

from spacewarps.survey.typed_tables import cells_of


def is_float(kind: pa.DataType) -> bool:
    """Say whether the values of a column are floating-point numbers."""
    return bool(pa.types.is_floating(kind.value_type if pa.types.is_dictionary(kind) else kind))


def cells_of_column(name: str, values: pa.Array) -> list[str]:
    """Return the values of the column ``name`` as text; of a dictionary, each text takes its room once.

    Raises:
        TableError: one of them is no single value.
    """
    if not pa.types.is_dictionary(values.type):
        return cells_of(name, values.to_pylist())
    known = cells_of(name, values.dictionary.to_pylist())
    return ["" if number is None else known[number] for number in values.indices.to_pylist()]
