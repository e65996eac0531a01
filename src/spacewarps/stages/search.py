"""The stage ``search``: the progressive architecture search."""

import time
from contextlib import closing
from pathlib import Path

import pandas as pd

from spacewarps.files import check_replaceable
from spacewarps.model.ensemble import check_orientations
from spacewarps.model.storage import save_model
from spacewarps.progress import say
from spacewarps.search.executors.registry import make_executor
from spacewarps.search.journal import FolderJournal
from spacewarps.search.observer import SeveralObservers
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_folds, parts_to_learn, set_up
from spacewarps.stages.search_display import SearchDisplay
from spacewarps.stages.searching import run_search
from spacewarps.tracking.artifacts import log_survey
from spacewarps.tracking.search_runs import SearchRuns
from spacewarps.training.compute import kind_of_machine
from spacewarps.writing import write_csv, write_json


def run(stage: Stage) -> None:
    """Write the network to ``paths.search`` and the search's summary to ``reports/search.json``."""
    search, target = stage.params.search, Path(stage.params.paths.search)
    with stage.tracked() as tracked:
        # Before the work of hours, not after it.
        check_replaceable(target)
        compute = set_up(stage, search.threads)
        folds = open_folds(stage, "search")
        parts_to_learn(stage)
        check_orientations(stage.params.train.orientations, folds[0].train.stamp_shape)
        with (
            closing(SearchDisplay(len(folds))) as display,
            closing(FolderJournal(stage.journal, every_epoch=search.checkpoints)) as journal,
        ):
            tracked.log_machine(kind_of_machine(compute.device))
            log_survey(tracked, stage.prepared, stage.params.paths.prepared, "search")
            before, start = tracked.tracker.seconds, time.perf_counter()
            with make_executor(search.executor, folds, compute, search) as executor:
                result = run_search(
                    stage,
                    search,
                    folds,
                    seed=stage.params.seed,
                    executor=executor,
                    journal=journal,
                    observer=SeveralObservers(display, SearchRuns(tracked)),
                )
            seconds, logging = time.perf_counter() - start, tracked.tracker.seconds - before
            summary = result.history.as_json()
            with stage.outputs() as out:
                save_model(result.model, out.folder(target))
                write_json(out.file(stage.reports / "search.json"), summary)
                write_csv(out.file(stage.reports / "plots" / "depth.csv"), pd.DataFrame(summary["candidates"]))
            tracked.log_metrics(
                {
                    "search_seconds": seconds,
                    "logging_share": logging / seconds,
                    "candidates_evaluated": result.evaluated,
                    "candidates_found": result.found,
                }
            )
            tracked.log_artifacts(stage.reports / "search.json")
    if journal.failure:
        say(f"the journal at {stage.journal} stopped taking notes ({journal.failure}); the result is the same without")
    layers = summary["num_layers"]
    over = f" over {search.folds} folds" if search.folds > 1 else ""
    say(
        f"{layers} block{'s' * (layers != 1)} ({', '.join(block.candidate.label for block in result.history.blocks)}), "
        f"validation accuracy {summary['final_val_accuracy']:.4f}{over}"
    )
    say(
        f"{result.evaluated} candidate{'s' * (result.evaluated != 1)} evaluated, {result.found} found in the journal; "
        f"{seconds:.0f} s, of which MLflow {logging / seconds:.1%}"
    )
