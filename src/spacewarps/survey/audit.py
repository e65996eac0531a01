"""What was left out of a survey, and why."""

from dataclasses import dataclass, field
from typing import Any

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
