"""The text files of outputs: the same values give the same bytes, every time and everywhere; and shares in words."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacewarps.formulas import table_as_text

if TYPE_CHECKING:
    import pandas as pd


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, its lines ended as they are given."""
    path.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON that reads well."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a data frame to ``path``, without its index, and what would be a formula as text."""
    table_as_text(table).to_csv(path, index=False, lineterminator="\n")


def in_percent(share: float) -> str:
    """Return a share in percent with the digits that it has, as 99.9% is not 100%."""
    return f"{100 * share:.6g}%"
