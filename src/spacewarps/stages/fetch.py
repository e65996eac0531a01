"""The stage ``fetch``: stamps for the positions of a catalogue, from an archive."""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

from spacewarps.archives.fetch import Fetched, fetch_stamps
from spacewarps.archives.services import Target
from spacewarps.archives.settings import FetchSettings
from spacewarps.archives.stamps import IMAGES, Store, put_together, stamps_of_earlier_run
from spacewarps.errors import ParamsError, SurveyError
from spacewarps.files import check_replaceable
from spacewarps.formulas import as_text
from spacewarps.progress import progress_bar, say
from spacewarps.settings import part_of
from spacewarps.stages.context import Stage
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import Columns
from spacewarps.survey.settings import StampSettings
from spacewarps.tracking.root import project_root

_LEFT_OUT = "left_out.csv"


def run(stage: Stage) -> None:
    """Write stamps to ``paths.fetched``, a table of where each is from, and ``left_out.csv``.

    Raises:
        SurveyError: too many stamps could not be had; those that could are kept for the next run.
    """
    params, place = stage.params, Path(stage.params.paths.fetched)
    catalog, how = Path(params.fetch.catalog), part_of(FetchSettings, params.fetch)
    with stage.tracked() as tracked:
        if how.service == "none":
            raise ParamsError(
                "params.yaml: fetch.service names no archive; set it to panstarrs, sdss, legacysurvey, or template"
            )
        # Before the work, not after it.
        check_replaceable(place)
        targets, audit = _targets(catalog, stage)
        # Beside the journal, where a run that is killed leaves what it has.
        store = Store(stage.journal / "stamps", how, StampSettings(stamp_extension=params.data.stamp_extension))
        # The project's own, also in one of DVC's temporary copies of it, which starts without any.
        earlier = stamps_of_earlier_run(project_root() / place)
        with progress_bar("fetch", len(targets), "targets") as progress:
            fetched = fetch_stamps(targets, how, store, earlier, progress)
        left_out = sorted(
            [(row, reason) for reason, rows in audit.left_out.items() for row in rows] + fetched.without,
            key=lambda row: (row[1], row[0]),
        )
        if fetched.given_up > how.max_failed_fraction * len(targets) or not fetched.rows:
            _write_left_out(store.folder / _LEFT_OUT, left_out)
            raise SurveyError(_complaint(catalog, store.folder / _LEFT_OUT, fetched, len(targets)))
        with stage.outputs() as out:
            folder = out.folder(place)
            put_together(folder, fetched.rows, fetched.stamps)
            _write_left_out(folder / _LEFT_OUT, left_out)
        tracked.log_metrics({"stamps": len(fetched.rows), "left_out": len(left_out)})
        tracked.log_artifacts(place / _LEFT_OUT)
    shutil.rmtree(store.folder, ignore_errors=True)
    say(f"{place / IMAGES}: {len(fetched.rows)} stamps; {fetched.asked} of {len(targets)} targets were asked for")
    if left_out:
        say(f"  {len(left_out)} rows lack stamps, see {place / _LEFT_OUT}: {_counted(left_out)}")


def _targets(catalog: Path, stage: Stage) -> tuple[list[Target], Audit]:
    """Return the rows of the catalogue that have an id and a position, and what became of the others."""
    columns, audit = stage.params.fetch.columns, Audit()
    rows = read_catalogue(
        catalog,
        Columns(columns.id, None, columns.ra, columns.dec),
        (),
        audit,
        missing_codes={},
        max_bad_fraction=1.0,
    )
    if rows.empty:
        raise SurveyError(f"{catalog}: no row has an id and a position ({_counted_reasons(audit)}); mend the catalogue")
    return [Target(*row) for row in rows[["id", "ra", "dec"]].itertuples(index=False)], audit


def _complaint(catalog: Path, table: Path, fetched: Fetched, targets: int) -> str:
    reason, count = fetched.reasons().most_common(1)[0]
    if not fetched.rows:
        return (
            f"{catalog}: none of {targets} targets has a stamp (most often: {reason}); {table} lists them; mend the "
            "catalogue, or name another archive in `service`"
        )
    return (
        f"{catalog}: {fetched.given_up} of {targets} targets were given up, more than `max_failed_fraction` allows; "
        f"most often: {reason} ({count} targets); {table} lists them. What there is is kept, and the same command asks "
        "for the rest"
    )


def _counted_reasons(audit: Audit) -> str:
    return ", ".join(f"{reason} ({len(rows)})" for reason, rows in sorted(audit.left_out.items()))


def _counted(rows: Iterable[tuple[str, str]]) -> str:
    counts: dict[str, int] = {}
    for _, reason in rows:
        counts[reason] = counts.get(reason, 0) + 1
    return ", ".join(f"{reason} ({count})" for reason, count in counts.items())


def _write_left_out(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("row", "reason"))
        table.writerows(map(as_text, row) for row in rows)
