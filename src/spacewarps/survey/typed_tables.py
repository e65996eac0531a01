"""Tables whose columns have types, as rows of text: what a number, a truth value and a missing one are as cells.

An integer has all of its digits, so an id that one catalogue holds as an integer of 64 bits is the text of another.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from spacewarps.survey.columns import shown
from spacewarps.survey.delimited import Table

# As many as fit into memory as rows of text; a small file can claim any number.
MOST_ROWS = 20_000_000
# The longest text that one cell holds, as in a CSV.
LONGEST_CELL = 131_072


class TableError(Exception):
    """A table cannot be used; the message says why, and follows the name of its file."""


def wanted_columns(names: Sequence[str], wanted: Collection[str]) -> list[str]:
    """Return those of ``names`` that are wanted.

    Raises:
        TableError: one of these stands for two columns.
    """
    repeated = next((name for name, count in Counter(names).items() if count > 1 and name in wanted), None)
    if repeated is not None:
        raise TableError(f"column {shown(repeated)} appears twice; rename or remove one")
    return [name for name in names if name in wanted]


def check_rows(count: int) -> None:
    """Check that a table claims no more rows than can be read.

    Raises:
        TableError: it does.
    """
    if not 0 <= count <= MOST_ROWS:
        raise TableError(f"claims {count:,} rows, where at most {MOST_ROWS:,} are read; is it damaged?")
    if not count:
        raise TableError("has columns but no rows")


def check_id(name: str, id_column: str, is_float: bool) -> None:
    """Refuse ids that are floating-point numbers.

    Raises:
        TableError: they are.
    """
    if is_float and name == id_column:
        raise TableError(
            f"id column {shown(name)} holds floating-point numbers, which lose the last digits of long ids; write the "
            "catalogue again with its ids as integers or text"
        )


def cells_of(name: str, values: Iterable[Any]) -> list[str]:
    """Return the ``values`` of the column ``name`` as text.

    Raises:
        TableError: one of them is no single value.
    """
    return [_cell(name, value) for value in values]


def table_of(
    name: str, names: Sequence[str], cells: Mapping[str, Sequence[str]], units: Mapping[str, str | None]
) -> Table:
    """Return the table called ``name``, with the columns ``names``, of which ``cells`` were read."""
    rows = [list(row) for row in zip(*cells.values(), strict=True)]
    places = [f"{name}:row {number}" for number in range(1, len(rows) + 1)]
    known = {column: unit for column in cells if (unit := units.get(column))}
    return Table(name, list(cells), "", rows, places, columns=list(names), units=known)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        # Text that says so is written in many ways.
        text = str(int(value))
    elif isinstance(value, float):
        text = "" if value != value else repr(value)
    elif isinstance(value, int | Decimal):
        text = str(value)
    elif value is None:
        text = ""
    elif isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, date | datetime):
        text = value.isoformat()
    else:
        raise TableError(f"column {shown(name)} holds arrays or objects, where one value a row is needed")
    if len(text) > LONGEST_CELL:
        raise TableError(f"column {shown(name)} has a cell of more than {LONGEST_CELL} characters")
    return text
