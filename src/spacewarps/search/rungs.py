"""When the candidates of a step are compared on their way, and which of them go on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from spacewarps.search.decisions import Rule
from spacewarps.search.folds import Fold
from spacewarps.search.history import CandidateResult
from spacewarps.search.settings import SearchSettings


class Rung(NamedTuple):
    """What the candidates that are left are trained in before they are compared.

    Args:
        folds: the numbers of the folds.
        epochs: until the end of this one.
    """

    folds: tuple[int, ...]
    epochs: int


class Ladder(ABC):
    """The rungs of a step, and which candidates go on after each but the last."""

    rungs: list[Rung]

    @abstractmethod
    def go_on(
        self, results: Sequence[CandidateResult], rule: Rule, last: CandidateResult | None
    ) -> list[CandidateResult]:
        """Return those of ``results`` that are trained further; ``last`` is what gains are measured from."""

    def samples(self, folds: Sequence[Fold], candidates: int, *, control: bool) -> int:
        """Return how many samples as many candidates learn from in a step, at most, and the ``control`` beside them."""
        epochs = self._epochs(candidates) + control * self.rungs[-1].epochs
        return epochs * sum(len(fold.train) for fold in folds)

    @abstractmethod
    def _epochs(self, candidates: int) -> int:
        """Return the epochs of as many candidates together, in each fold, at most."""


class Halving(Ladder):
    """The worse half stops at each rung, in all folds at once (successive halving: Li et al. 2018, arXiv:1603.06560).

    >>> [rung.epochs for rung in Halving(epochs=8, halvings=2, folds=1).rungs]
    [2, 4, 8]

    Args:
        epochs: of a candidate that is trained to the end.
        halvings: how often the worse half stops.
        folds: how many there are.
    """

    def __init__(self, epochs: int, halvings: int, folds: int) -> None:
        every = tuple(range(folds))
        self.rungs = [Rung(every, until) for until in sorted({-(-epochs // 2**times) for times in range(halvings + 1)})]

    def go_on(
        self,
        results: Sequence[CandidateResult],
        rule: Rule,
        last: CandidateResult | None,  # noqa: ARG002
    ) -> list[CandidateResult]:
        """Return the better half, rounded up."""
        return sorted(results, key=rule.rank)[: _half(len(results))]

    def _epochs(self, candidates: int) -> int:
        epochs = begun = 0
        for rung in self.rungs:
            epochs += candidates * (rung.epochs - begun)
            candidates, begun = _half(candidates), rung.epochs
        return epochs


class Racing(Ladder):
    """After each fold those stop that have next to no chance to win (Hoeffding races: Maron & Moore 1994).

    What chance there is follows from paired differences, as in the races of irace (López-Ibáñez et al. 2016, Operations
    Research Perspectives 3, 43), by :meth:`~spacewarps.search.decisions.Rule.in_the_race`.

    >>> Racing(epochs=6, folds=2).rungs
    [Rung(folds=(0,), epochs=6), Rung(folds=(1,), epochs=6)]

    Args:
        epochs: of each candidate in each fold.
        folds: how many there are.
    """

    def __init__(self, epochs: int, folds: int) -> None:
        self.rungs = [Rung((fold,), epochs) for fold in range(folds)]

    def go_on(
        self, results: Sequence[CandidateResult], rule: Rule, last: CandidateResult | None
    ) -> list[CandidateResult]:
        """Return the best, and those that may still be preferred to it."""
        return rule.in_the_race(results, last, len(self.rungs))

    def _epochs(self, candidates: int) -> int:
        return candidates * self.rungs[0].epochs


def ladder_of(settings: SearchSettings, folds: int) -> Ladder:
    """Return the ladder that ``settings`` ask for."""
    if settings.racing:
        return Racing(settings.epochs_per_eval, folds)
    return Halving(settings.epochs_per_eval, settings.halving, folds)


def _half(count: int) -> int:
    return -(-count // 2)
