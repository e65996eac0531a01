"""What the search tells whoever watches it."""

from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.training.score import Epoch


class SearchObserver:
    """Told what happens, as it happens. Does nothing by itself: a subclass overrides what it wants to hear."""

    def search_started(self, steps: int) -> None:
        """A search of at most ``steps`` steps begins."""

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:
        """The candidates of ``step`` and its control are about to be evaluated, on ``samples`` samples in all."""

    def candidate_started(self, candidate: Candidate) -> None:
        """The evaluation of ``candidate`` begins. Others may begin before it ends."""

    def batch_trained(self, samples: int) -> None:
        """Another ``samples`` samples were learned from, or need not be."""

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:
        """A candidate ended an epoch in a fold, now or in an earlier search that the journal remembers."""

    def others_awaited(self, candidates: int) -> None:
        """Nothing is left to do but to wait for another search, which has had ``candidates`` in hand for a while."""

    def candidate_finished(self, result: CandidateResult) -> None:
        """A candidate has its score."""

    def step_finished(self, step: Step) -> None:
        """The step has its winner, or ends the search."""

    def search_finished(self, history: History) -> None:
        """The search is over."""


class SeveralObservers(SearchObserver):
    """Tells each of several observers, in order."""

    def __init__(self, *observers: SearchObserver) -> None:
        self.observers = observers

    def search_started(self, steps: int) -> None:
        for observer in self.observers:
            observer.search_started(steps)

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:
        for observer in self.observers:
            observer.step_started(step, candidates, samples)

    def candidate_started(self, candidate: Candidate) -> None:
        for observer in self.observers:
            observer.candidate_started(candidate)

    def batch_trained(self, samples: int) -> None:
        for observer in self.observers:
            observer.batch_trained(samples)

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:
        for observer in self.observers:
            observer.epoch_finished(candidate, fold, epoch)

    def others_awaited(self, candidates: int) -> None:
        for observer in self.observers:
            observer.others_awaited(candidates)

    def candidate_finished(self, result: CandidateResult) -> None:
        for observer in self.observers:
            observer.candidate_finished(result)

    def step_finished(self, step: Step) -> None:
        for observer in self.observers:
            observer.step_finished(step)

    def search_finished(self, history: History) -> None:
        for observer in self.observers:
            observer.search_finished(history)
