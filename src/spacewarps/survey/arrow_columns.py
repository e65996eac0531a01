"""Columns of Arrow's types as text, wherever they were read from."""

import pyarrow as pa

from spacewarps.survey.described_columns import DescriptionError, units_described
from spacewarps.survey.typed_tables import TableError, cells_of

_OF_ASTROPY, _UNIT = b"table_meta_yaml", b"unit"


def is_float(kind: pa.DataType) -> bool:
    """Say whether the values of a column are floating-point numbers."""
    return bool(pa.types.is_floating(kind.value_type if pa.types.is_dictionary(kind) else kind))


def units_in(schema: pa.Schema) -> dict[str, str]:
    """Return the units that a schema names: for each field, as ``unit``, or as astropy describes them all.

    Raises:
        TableError: what astropy wrote is damaged.
    """
    try:
        described = units_described((schema.metadata or {}).get(_OF_ASTROPY, b"").decode("utf-8", "replace"))
    except DescriptionError as error:
        raise TableError(str(error)) from None
    own = {field.name: field.metadata[_UNIT].decode("utf-8", "replace") for field in schema if _has_unit(field)}
    return described | own


def _has_unit(field: pa.Field) -> bool:
    return _UNIT in (field.metadata or {})


def cells_of_column(name: str, values: pa.Array) -> list[str]:
    """Return the values of the column ``name`` as text; of a dictionary, each text takes its room once.

    Raises:
        TableError: one of them is no single value.
    """
    if not pa.types.is_dictionary(values.type):
        return cells_of(name, values.to_pylist())
    known = cells_of(name, values.dictionary.to_pylist())
    return ["" if number is None else known[number] for number in values.indices.to_pylist()]
