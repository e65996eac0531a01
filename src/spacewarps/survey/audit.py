"""What was left out of a survey, and why."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacewarps.errors import SurveyError

AUDIT_FILE = "audit.json"

# Reasons of the user's own choosing, or that lose nothing; every other reason counts as a fault of the survey.
CHOSEN_REASONS = frozenset({"repeated row", "label conflict", "outside the fraction"})


@dataclass
class Audit:
    """Counts and lists every row that does not become a sample.

    ``rows_in`` is the number of rows of the catalogue that holds the labels. Each becomes a sample or is left out for
    exactly one reason, so ``rows_in`` is ``rows_kept`` plus all that ``left_out`` counts. ``notes`` are sentences on
    what may be wrong although no row was left out for it; ``hints`` are the words that help to understand a reason.
    """

    rows_in: int = 0
    rows_kept: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reason: str, what: str) -> None:
        """Note that the row ``what`` is left out because of ``reason``."""
        self.left_out.setdefault(reason, []).append(what)

    @property
    def bad_rows(self) -> int:
        """The number of rows that were left out because something is wrong with them."""
        return sum(len(rows) for reason, rows in self.left_out.items() if reason not in CHOSEN_REASONS)

    def most_common_fault(self) -> tuple[str, list[str]]:
        """Return the fault that cost most rows, and these rows."""
        faults = {reason: rows for reason, rows in self.left_out.items() if reason not in CHOSEN_REASONS}
        return max(faults.items(), key=lambda item: len(item[1]))

    def check_bad_fraction(self, rows: int, max_bad_fraction: float, catalog: Path) -> None:
        """Refuse a survey of which more than ``max_bad_fraction`` of ``rows`` are faulty, or all of them.

        Raises:
            SurveyError: with the most common fault.
        """
        bad = self.bad_rows
        if bad <= max_bad_fraction * rows and (bad < rows or bad == 0):
            return
        reason, faulty = self.most_common_fault()
        hint = f": {self.hints[reason]}" if reason in self.hints else ""
        limit = f", more than `max_bad_fraction`={max_bad_fraction:g} allows" if bad > max_bad_fraction * rows else ""
        raise SurveyError(
            f"{catalog}: {bad} of {rows} rows cannot be used{limit}; most often: {reason} ({len(faulty)} rows, first "
            f"{min(faulty, key=_in_order_of_numbers):.200}{hint}); mend them or raise `max_bad_fraction`"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the audit as it is written to ``audit.json``."""
        return {
            "rows_in": self.rows_in,
            "rows_kept": self.rows_kept,
            "left_out": {
                reason: {"count": len(rows), "rows": sorted(rows)} for reason, rows in sorted(self.left_out.items())
            },
            "notes": self.notes,
            **self.details,
        }


def _in_order_of_numbers(place: str) -> str:
    """Return what puts line 9 of a file before line 10."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(12), place)
