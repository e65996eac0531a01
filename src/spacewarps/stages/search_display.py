"""A search on the terminal."""

from collections.abc import Callable
from contextlib import ExitStack

from spacewarps.progress import progress_bar, say
from spacewarps.search.history import Candidate, CandidateResult, Step
from spacewarps.search.observer import SearchObserver


class SearchDisplay(SearchObserver):
    """Shows a search on the terminal: a bar over each step, a line for each candidate and each step."""

    def __init__(self, folds: int) -> None:
        self._folds = folds
        self._bar = ExitStack()
        self._advance: Callable[[int], None] = lambda _done: None

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def search_started(self, steps: int) -> None:
        say(f"search: up to {steps} step{'s' * (steps != 1)}")

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:
        self._bar.close()
        on_trial = sum(not candidate.control for candidate in candidates)
        beside = " and the control" if on_trial < len(candidates) else ""
        self._advance = self._bar.enter_context(progress_bar(f"step {step}, {on_trial} candidates{beside}", samples))

    def batch_trained(self, samples: int) -> None:
        self._advance(samples)

    def others_awaited(self, candidates: int) -> None:
        say(f"  another search is evaluating {candidates} of the candidates; waiting for what it writes to the journal")

    def candidate_finished(self, result: CandidateResult) -> None:
        score = result.score
        early = "" if result.finished else f", stopped after {len(result.epochs)} epochs"
        if len(result.folds) < self._folds:
            early = f", dropped after {len(result.folds)} of {self._folds} folds"
        say(
            f"  step {result.candidate.step}, {result.candidate.label}: validation accuracy {score.accuracy:.4f}, "
            f"loss {score.loss:.4f}, {result.trainable_params:,} parameters{early}"
        )

    def step_finished(self, step: Step) -> None:
        self._bar.close()
        say(step.decision.sentence)
        for result in step.kept[1:]:
            say(f"  {result.candidate.label} is kept beside it")
