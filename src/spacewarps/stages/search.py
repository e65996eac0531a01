"""The stage ``search``: the progressive architecture search."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pandas as pd

from spacewarps.files import check_replaceable, outputs
from spacewarps.model.progressive import Widths
from spacewarps.model.storage import save_model
from spacewarps.progress import progress_bar, say
from spacewarps.search.candidate import WarmStart
from spacewarps.search.executors import make_executor
from spacewarps.search.history import Candidate, CandidateResult, Step
from spacewarps.search.journal import FolderJournal
from spacewarps.search.observer import SearchObserver, SeveralObservers
from spacewarps.search.progressive import progressive_architecture_search
from spacewarps.search.strategies import make_strategy
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_splits, optimiser_of, set_up
from spacewarps.tracking.artifacts import log_survey
from spacewarps.tracking.search_runs import SearchRuns
from spacewarps.writing import write_csv, write_json


class SearchDisplay(SearchObserver):
    """Shows a search on the terminal: a bar over each step, a line for each candidate and each step."""

    def __init__(self) -> None:
        self._bar = ExitStack()
        self._advance: Callable[[int], None] = lambda _done: None

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def search_started(self, steps: int) -> None:
        say(f"search: up to {steps} layer{'s' * (steps != 1)}")

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:
        self._bar.close()
        self._advance = self._bar.enter_context(progress_bar(f"layer {step}, {len(candidates)} candidates", samples))

    def batch_trained(self, samples: int) -> None:
        self._advance(samples)

    def others_awaited(self, candidates: int) -> None:
        say(f"  another search is evaluating {candidates} of the candidates; waiting for what it writes to the journal")

    def candidate_finished(self, result: CandidateResult) -> None:
        score = result.score
        early = "" if result.finished else f", stopped after {len(result.epochs)} epochs"
        say(
            f"  layer {result.candidate.step}, {result.candidate.label}: validation accuracy {score.accuracy:.4f}, "
            f"loss {score.loss:.4f}, {result.trainable_params:,} weights{early}"
        )

    def step_finished(self, step: Step) -> None:
        self._bar.close()
        if not step.kept:
            say(f"layer {step.number}: no gain, the search ends")
        for result in step.kept:
            say(f"layer {step.number}: {result.candidate.label} joins, accuracy {result.score.accuracy:.4f}")


def run(stage: Stage) -> None:
    """Write the network to ``paths.search`` and the search's summary to ``reports/search.json``."""
    search, target = stage.params.search, Path(stage.params.paths.search)
    # Before the work of hours, not after it.
    check_replaceable(target)
    compute = set_up(stage, search.threads)
    train, validation = open_splits(stage, "train", "validation")
    with (
        stage.tracked() as tracked,
        closing(SearchDisplay()) as display,
        closing(FolderJournal(stage.journal)) as journal,
    ):
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "search")
        before, start = tracked.tracker.seconds, time.perf_counter()
        with make_executor(search.executor, train, validation, compute, search.model_dump()) as executor:
            result = progressive_architecture_search(
                train,
                validation,
                k_candidates=search.candidates_by_step(),
                block_kinds=search.block_kinds,
                kernel_sizes=search.kernel_sizes,
                max_layers=search.max_layers,
                epochs_per_eval=search.epochs_per_eval,
                min_delta=search.min_delta,
                strategy=make_strategy(search.strategy, **search.model_dump(exclude={"strategy"})),
                halving=search.halving,
                warm_start=WarmStart(**search.warm_start.model_dump()),
                trains=search.trains,
                widths=Widths(**stage.params.model.model_dump()),
                optimiser=optimiser_of(stage),
                compute=compute,
                seed=stage.params.seed,
                executor=executor,
                journal=journal,
                checkpoints=search.checkpoints,
                observer=SeveralObservers(display, SearchRuns(tracked)),
            )
        seconds, logging = time.perf_counter() - start, tracked.tracker.seconds - before
        summary = result.history.as_json()
        with outputs() as out:
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
    say(
        f"{layers} layer{'s' * (layers != 1)} ({', '.join(block.candidate.label for block in result.history.blocks)}), "
        f"validation accuracy {summary['final_val_accuracy']:.4f}"
    )
    say(
        f"{result.evaluated} candidate{'s' * (result.evaluated != 1)} evaluated, {result.found} found in the journal; "
        f"{seconds:.0f} s, of which MLflow {logging / seconds:.1%}"
    )
