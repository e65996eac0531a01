"""The parts of the page on what the result was made from."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from spacewarps.report.facts import Facts
from spacewarps.report.markup import Markup, element, joined
from spacewarps.report.tables import table

_ROWS_NAMED = 5
_CONFLICTS_NAMED = 20
_DOUBTED_NAMED = 20


def audit(facts: Facts) -> Markup:
    """Return what was left out of the survey, and how the rest was split."""
    found = facts.audit
    if found is None:
        return element("p", "The prepared survey has no audit.json, as another program made it.")
    left_out = [[reason, str(each["count"]), _some(each["rows"])] for reason, each in found["left_out"].items()]
    conflicts = found["label_conflicts"]
    return joined(
        element("p", f"{found['rows_kept']:,} of {found['rows_in']:,} rows of the catalogue are samples."),
        table("Rows that were left out.", ["reason", "rows", "which"], left_out)
        if left_out
        else element("p", "No row was left out."),
        _splits(found["splits"], facts.classes),
        element(
            "p",
            f"{len(conflicts['sources'])} sources have rows of different classes (data.label_conflicts: "
            f"{conflicts['treatment']}).",
        ),
        _notes(found["notes"]),
        _conflicts(conflicts["sources"]),
        _doubted(facts.doubted),
    )


def _splits(splits: Mapping[str, Mapping[str, Any]], classes: list[str]) -> Markup:
    rows = [[what, *(f"{split[what]:,}" for split in splits.values())] for what in ("samples", "sources")]
    rows += [[f"samples of {name}", *(f"{s['classes'].get(name, 0):,}" for s in splits.values())] for name in classes]
    caption = "The splits. All rows of one source are in the same one."
    return table(caption, ["what", *splits], rows, numbers=len(splits))


def _notes(notes: list[str]) -> Markup | None:
    if not notes:
        return None
    return joined(element("h3", "Notes of the audit"), element("ul", *(element("li", note) for note in notes)))


def _conflicts(sources: Mapping[str, Mapping[str, str]]) -> Markup | None:
    if not sources:
        return None
    rows = [
        [source, ", ".join(f"{row}: {label}" for row, label in labels.items())]
        for source, labels in list(sources.items())[:_CONFLICTS_NAMED]
    ]
    return element(
        "details",
        element("summary", "Sources whose rows disagree"),
        table(f"The first {len(rows)} of {len(sources)}.", ["source", "its rows"], rows),
    )


def _doubted(found: pd.DataFrame) -> Markup | None:
    if found.empty:
        return None
    shown = found.head(_DOUBTED_NAMED)
    rows = [
        [str(each.id), str(each.label), str(each.suggested), f"{each.p_label:.1%}", f"{each.p_suggested:.1%}"]
        for each in shown.itertuples()
    ]
    disagree = int(found["source_disagrees"].sum())
    among = f", {disagree} of them of sources whose rows disagree" if disagree else ""
    return joined(
        element("h3", "Labels to look at"),
        element(
            "p",
            f"Networks that had not learned from them contradict {len(found):,} labels outside the test split with "
            f"confidence{among}. Nothing was changed because of it; all of them stand in doubted_labels.csv.",
        ),
        element(
            "details",
            element("summary", f"The first {len(rows)}" if len(rows) < len(found) else "All of them"),
            table(
                "Doubted labels.",
                ["id", "label", "suggested", "probability of the label", "of the suggested class"],
                rows,
                numbers=2,
            ),
        ),
    )


def _some(rows: list[str]) -> str:
    more = f" and {len(rows) - _ROWS_NAMED} more" if len(rows) > _ROWS_NAMED else ""
    return f"{', '.join(row[:80] for row in rows[:_ROWS_NAMED])}{more}"


def repeat(facts: Facts) -> Markup:
    """Return what it takes to get the same result again."""
    origins = facts.origins
    return joined(
        element("p", "With the commit that MLflow names for this run, the data below and the versions below:"),
        element("pre", element("code", origins.command), tabindex="0"),
        table("Hashes.", ["of", "hash"], _rows(origins.hashes)),
        table("Versions of the packages that compute.", ["package", "version"], _rows(origins.versions)),
        element(
            "details",
            element("summary", f"Params ({len(origins.params)})"),
            table("All params that decide the result.", ["param", "value"], _rows(origins.params)),
        ),
    )


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    return [[name, str(value)] for name, value in values.items()]
