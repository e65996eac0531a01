"""What a final network answers for a survey that the command line names, in or outside of a project."""

import argparse
import shutil
from pathlib import Path

from spacewarps.files import outputs
from spacewarps.prediction.table import check_name
from spacewarps.progress import say
from spacewarps.stages.predicting import Asked, answer
from spacewarps.training.compute import set_up_compute
from spacewarps.training.settings import ComputeSettings


def run(options: argparse.Namespace, settings: ComputeSettings) -> None:
    """Write the table that ``options`` name, and beside it the rows that could not be predicted, with the reason.

    Args:
        options: of the command line.
        settings: what to compute with.

    Raises:
        SpaceWarpsError: the model or the survey cannot be used, or a process was lost.
    """
    table: Path = options.out
    check_name(table)
    left_out, partial = table.with_name(f"{table.stem}.left_out.csv"), table.with_name(f"{table.name}.partial")
    with outputs() as placed:
        answered = answer(
            Asked(options.model, options.catalog, options.images, options.id),
            set_up_compute(settings),
            table=(placed.file(table), table),
            left_out=(placed.file(left_out), left_out),
            partial=partial,
            workers=options.workers,
            cluster=options.ray,
        )
    shutil.rmtree(partial)
    for line in answered.lines:
        say(line)
