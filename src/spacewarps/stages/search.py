"""The stage ``search``: the progressive architecture search."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from spacewarps.files import write_json
from spacewarps.model.progressive import Widths
from spacewarps.model.storage import save_model
from spacewarps.progress import progress_bar, say
from spacewarps.search.candidate import WarmStart
from spacewarps.search.history import CandidateResult, Step
from spacewarps.search.observer import SearchObserver, SeveralObservers
from spacewarps.search.progressive import progressive_architecture_search
from spacewarps.stages.context import Stage, write_csv
from spacewarps.tracking.artifacts import log_survey
from spacewarps.tracking.search_runs import SearchRuns


class SearchDisplay(SearchObserver):
    """Shows a search on the terminal: a bar over all of it, a line for each candidate and each step."""

    def __init__(self, stack: ExitStack) -> None:
        # The bar's length is known when the search starts; whoever owns the stack takes the bar away, come what may.
        self._stack = stack
        self._advance: Callable[[int], None] = lambda _done: None

    def search_started(self, steps: int, samples: int) -> None:
        say(f"search: up to {steps} layers")
        self._advance = self._stack.enter_context(progress_bar("search", samples))

    def batch_trained(self, samples: int) -> None:
        self._advance(samples)

    def candidate_finished(self, result: CandidateResult) -> None:
        candidate, score = result.candidate, result.score
        say(
            f"  layer {candidate.step}, {candidate.kind} k={candidate.k}: validation accuracy {score.accuracy:.4f}, "
            f"loss {score.loss:.4f}, {result.trainable_params:,} weights"
        )

    def step_finished(self, step: Step) -> None:
        if step.chosen is None:
            say(f"layer {step.number}: no gain, the search ends")
        else:
            say(f"layer {step.number}: k={step.chosen.candidate.k} joins, accuracy {step.chosen.score.accuracy:.4f}")


def run(stage: Stage) -> None:
    """Write the network to ``paths.search`` and the search's summary to ``reports/search.json``."""
    search = stage.params.search
    compute = stage.compute()
    with stage.tracked() as tracked, ExitStack() as stack:
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "search")
        before, start = tracked.tracker.seconds, time.perf_counter()
        result = progressive_architecture_search(
            stage.split("train"),
            stage.split("validation"),
            k_candidates=search.candidates_by_step(),
            max_layers=search.max_layers,
            epochs_per_eval=search.epochs_per_eval,
            min_delta=search.min_delta,
            warm_start=WarmStart(**search.warm_start.model_dump()),
            widths=Widths(**stage.params.model.model_dump()),
            optimiser=stage.optimiser(),
            compute=compute,
            seed=stage.params.seed,
            observer=SeveralObservers(SearchDisplay(stack), SearchRuns(tracked)),
        )
        seconds, logging = time.perf_counter() - start, tracked.tracker.seconds - before
        summary = result.history.as_json()
        save_model(result.model, Path(stage.params.paths.search))
        write_json(stage.reports / "search.json", summary)
        write_csv(stage.reports / "plots" / "depth.csv", pd.DataFrame(summary["candidates"]))
        tracked.log_metrics({"search_seconds": seconds, "logging_share": logging / seconds})
        tracked.log_artifacts(stage.reports / "search.json")
    layers = summary["num_layers"]
    say(
        f"{layers} layer{'s' * (layers != 1)} (k = {', '.join(map(str, result.model.ks))}), validation accuracy "
        f"{summary['final_val_accuracy']:.4f}; {seconds:.0f} s, of which MLflow {logging / seconds:.1%}"
    )
