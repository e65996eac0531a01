"""The stage ``predict``: what the final network answers for another survey."""

import shutil
from pathlib import Path

from spacewarps.files import check_replaceable
from spacewarps.progress import say
from spacewarps.search.executors.settings import RaySettings
from spacewarps.settings import part_of
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import set_up
from spacewarps.stages.predicting import Asked, answer


def run(stage: Stage) -> None:
    """Write the table of answers to ``paths.predictions``, and ``left_out.csv`` beside it."""
    params, place = stage.params, Path(stage.params.paths.predictions)
    table, left_out = f"predictions.{params.predict.table}", "left_out.csv"
    partial = stage.journal / "predictions"
    with stage.tracked() as tracked:
        # Before the work, not after it.
        check_replaceable(place)
        compute = set_up(stage, params.compute.threads)
        with stage.outputs() as out:
            folder = out.folder(place)
            answered = answer(
                Asked(
                    Path(params.paths.final),
                    Path(params.predict.catalog),
                    Path(params.predict.images),
                    params.predict.id,
                ),
                compute,
                table=(folder / table, place / table),
                left_out=(folder / left_out, place / left_out),
                partial=partial,
                cluster=part_of(RaySettings, params.search).ray.address if params.search.executor == "ray" else None,
            )
        tracked.log_metrics({"predicted": answered.samples, "left_out": answered.left_out})
        tracked.log_artifacts(place / left_out)
    shutil.rmtree(partial)
    for line in answered.lines:
        say(line)
