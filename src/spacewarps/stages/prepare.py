"""The stage ``prepare``: CSV join, cleaning, grouping, fraction, split, packing."""

from pathlib import Path

from spacewarps.progress import progress_bar, say
from spacewarps.stages.arguments import in_params
from spacewarps.stages.context import Stage
from spacewarps.survey.audit import AUDIT_FILE
from spacewarps.survey.prepare import prepare_survey
from spacewarps.tracking.artifacts import log_survey


def run(stage: Stage) -> None:
    """Write the prepared survey to ``paths.prepared``."""
    data = stage.params.data
    with stage.tracked() as tracked:
        with stage.outputs() as out:
            audit = prepare_survey(
                out.folder(stage.prepared),
                catalog=Path(data.catalog),
                images=Path(data.images),
                settings=data,
                seed=stage.params.seed,
                progress_bar=progress_bar,
            )
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "preparation")
        left_out = sum(len(rows) for rows in audit.left_out.values())
        tracked.log_metrics({"rows_in": audit.rows_in, "rows_kept": audit.rows_kept, "rows_left_out": left_out})
        tracked.log_artifacts(stage.prepared / AUDIT_FILE)
    say(f"{audit.rows_kept} of {audit.rows_in} rows kept")
    for reason, rows in sorted(audit.left_out.items()):
        say(f"  left out: {len(rows)} ({reason})")
    for name, split in audit.details["splits"].items():
        classes = ", ".join(f"{count} {label}" for label, count in split["classes"].items())
        say(f"  {name}: {split['samples']} samples of {split['sources']} sources ({classes})")
    for note in audit.notes:
        say(f"  note: {in_params(note, stage.name)}")
    conflicts = len(audit.details["label_conflicts"]["sources"])
    if conflicts:
        say(f"  {conflicts} sources have rows of different classes (data.label_conflicts={data.label_conflicts})")
    say(f"  every reason and row: {stage.prepared / AUDIT_FILE}")
