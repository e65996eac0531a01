"""Text in tables that people open: what a spreadsheet would take for a formula is written so that it opens as text.

A spreadsheet runs a cell that begins with one of a few signs, and a formula can send what lies beside it to a stranger.
Ids and classes are others' words, so such a cell gets an apostrophe in front (OWASP, *CSV Injection*). What begins with
apostrophes before such a sign gets one more, so that each text has one form, and each form one text.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# The last four are the signs in full width, which spreadsheets in Japanese take for the same.
_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_TAKEN_FOR_A_FORMULA = re.compile(f"[{_SIGNS}]")
_WITH_APOSTROPHES = re.compile(f"'+[{_SIGNS}]")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def as_text(cell: str) -> str:
    """Return ``cell`` as it is written, so that a spreadsheet shows it and runs nothing; numbers stay numbers.

    >>> as_text("=1+1"), as_text("'=1+1"), as_text("-7"), as_text("STAR")
    ("'=1+1", "''=1+1", '-7', 'STAR')
    """
    is_formula = _TAKEN_FOR_A_FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula or _WITH_APOSTROPHES.match(cell) else cell


def from_text(cell: str) -> str:
    """Return the cell that :func:`as_text` wrote as ``cell``."""
    return cell[1:] if _WITH_APOSTROPHES.match(cell) else cell


def table_as_text(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return ``table`` with all texts, also those of its header, as :func:`as_text` has them."""
    return _with_texts(table, as_text)


def table_from_text(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the table that :func:`table_as_text` made ``table`` of."""
    return _with_texts(table, from_text)


def _with_texts(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    changed = table.copy(deep=False)
    for name in changed.select_dtypes(exclude=["number", "bool"]).columns:
        column = changed[name]
        cells = [change(cell) if isinstance(cell, str) else cell for cell in column]
        # Pandas would make numbers of a column that has nothing but these and gaps.
        changed[name] = type(column)(cells, column.index, column.dtype if column.dtype == "str" else object)
    return changed.rename(columns=change)
