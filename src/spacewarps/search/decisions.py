"""Which candidate of a step wins, and whether its block joins: comparisons that know their own uncertainty."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spacewarps.search.clustered import UNKNOWN, Estimate, estimate, weights_of
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, CandidateResult, Decision, Evidence
from spacewarps.search.settings import Measure, SearchSettings
from spacewarps.training.score import Outcomes

# Beside the winner, a decision names this many candidates.
_OTHERS_NAMED = 4
# With a smaller chance to decide the step, a candidate drops out of a race.
_LEAST_CHANCE = 0.05


class Rule(ABC):
    """Ranks the candidates of a step, and decides whether the best of them joins."""

    @abstractmethod
    def rank(self, result: CandidateResult) -> tuple[object, ...]:
        """Return what sorts candidates, best first."""

    @abstractmethod
    def may_win(self, results: Sequence[CandidateResult]) -> list[CandidateResult]:
        """Return those of ``results`` that may be the winner of a step that has more candidates beside them."""

    @abstractmethod
    def in_the_race(
        self, results: Sequence[CandidateResult], last: CandidateResult | None, folds: int
    ) -> list[CandidateResult]:
        """Return those of ``results``, scored in the same folds, that may still win a step of ``folds`` folds.

        Args:
            results: candidates of the step.
            last: what gains are measured from (:func:`measured_from`); none at the first step.
            folds: how many folds they have in the end.
        """

    @abstractmethod
    def decide(
        self,
        results: Sequence[CandidateResult],
        last: CandidateResult | None,
        *,
        tries_left: int,
        control: CandidateResult | None = None,
    ) -> Decision:
        """Return which candidate wins, and whether its block joins.

        Args:
            results: all candidates of a step.
            last: the last whose block joined; none at the first step, whose winner joins if it did not diverge.
            tries_left: how many more steps may be tried if none joins.
            control: the network of ``last`` after as many epochs as the candidates have, where there is one.
        """


class HighestAccuracy(Rule):
    """The most accurate candidate joins if it gains more than ``min_delta``.

    On equal accuracy the lower loss wins, and on equal loss fewer parameters. Nothing is said about noise.
    """

    def __init__(self, min_delta: float) -> None:
        self._min_delta = min_delta

    def rank(self, result: CandidateResult) -> tuple[object, ...]:
        """Return what sorts candidates by accuracy."""
        return result.rank()

    def may_win(self, results: Sequence[CandidateResult]) -> list[CandidateResult]:
        """Return the first in rank."""
        return [min(results, key=self.rank)]

    def in_the_race(
        self,
        results: Sequence[CandidateResult],
        last: CandidateResult | None,  # noqa: ARG002
        folds: int,  # noqa: ARG002
    ) -> list[CandidateResult]:
        """Return all: an accuracy by itself does not know its noise."""
        return list(results)

    def decide(
        self,
        results: Sequence[CandidateResult],
        last: CandidateResult | None,
        *,
        tries_left: int,
        control: CandidateResult | None = None,  # noqa: ARG002
    ) -> Decision:
        """Return the first in rank, which joins if it gains more than ``min_delta``."""
        winner = min(results, key=self.rank)
        accuracy, step = winner.score.accuracy, winner.candidate.step
        label = winner.candidate.label
        usable = winner.finished and not winner.score.diverged
        if not usable:
            return Decision(winner, False, f"step {step}: every candidate diverged, {_what_follows(0)}")
        if last is None:
            return Decision(winner, True, f"step {step}: {label} joins, accuracy {accuracy:.4f}")
        gain = accuracy - last.score.accuracy
        joins = accuracy > last.score.accuracy + self._min_delta
        if joins:
            brought = _brought_along(winner, last)
            sentence = f"step {step}: {label} joins{brought}, accuracy {accuracy:.4f}, {gain:.4f} higher"
        else:
            sentence = f"step {step}: no gain, {_what_follows(tries_left)}"
        return Decision(winner, joins, sentence)


class PairedEvidence(Rule):
    """A block joins when its gain is more than noise, and of candidates that are alike the smallest wins.

    Every comparison is paired: both networks are scored on the same samples, and what counts is the mean of the
    differences, sample by sample. Its standard error is clustered by source
    (:func:`~spacewarps.search.clustered.estimate`), and compared as Student's t.

    A candidate gains if its difference from the last that joined, or from the control of the step where there is one
    (:func:`measured_from`), is above ``min_delta`` by more than noise: the one-sided confidence is ``confidence`` for
    all candidates of a step together (Bonferroni), or the best of many would join by chance. Among those that gain, the
    best and every smaller one that is within one standard error of it are alike (the one-standard-error rule: Breiman
    et al. 1984, section 3.4.3), and the one with the fewest parameters wins; one that is both larger and worse than
    another never does.

    Args:
        measure: what is compared: the ``loss``, the ``accuracy``, or the ``balanced_accuracy``, which is the mean of
            the classes' accuracies.
        confidence: that a block which joins has gained at all.
        min_delta: in units of the measure.
        folds: the samples that candidates are scored on.
    """

    def __init__(self, measure: Measure, confidence: float, min_delta: float, folds: Sequence[Fold]) -> None:
        self._measure = measure
        self._confidence = confidence
        self._min_delta = min_delta
        self._sources = [fold.validation.samples["source"].to_numpy(dtype=str) for fold in folds]
        self._labels = [fold.validation.labels.numpy() for fold in folds]

    def rank(self, result: CandidateResult) -> tuple[object, ...]:
        """Return :meth:`~spacewarps.search.history.CandidateResult.rank`, with the measure before accuracy."""
        least = result.rank()
        return (*least[:2], -self._mean(_values(self._measure, result)), *least[2:])

    def may_win(self, results: Sequence[CandidateResult]) -> list[CandidateResult]:
        """Return those that are better than every one with as few parameters."""
        best: list[CandidateResult] = []
        for result in sorted(results, key=self.rank):
            if not any(other.trainable_params <= result.trainable_params for other in best):
                best.append(result)
        return best

    def in_the_race(
        self, results: Sequence[CandidateResult], last: CandidateResult | None, folds: int
    ) -> list[CandidateResult]:
        """Return the best, and those that have a chance of 5% or more to be preferred to it, and to gain."""
        best = min(results, key=self.rank)
        share = len(best.folds) / folds
        return [each for each in results if each is best or self._may_win(each, best, last, len(results), share)]

    def decide(
        self,
        results: Sequence[CandidateResult],
        last: CandidateResult | None,
        *,
        tries_left: int,
        control: CandidateResult | None = None,
    ) -> Decision:
        """Return the smallest of the best, which joins if one of them gains more than noise."""
        usable = [result for result in results if result.finished and not result.score.diverged]
        if not usable:
            winner = min(results, key=self.rank)
            sentence = f"step {winner.candidate.step}: every candidate diverged, {_what_follows(0)}"
            return Decision(winner, False, sentence, self._evidence(results, None, last, control))
        base = measured_from(last, control)
        contenders = self.may_win(usable)
        gaining = [each for each in contenders if base is None or self._gains(each, base, len(results))]
        winner = self._smallest_of_the_best(gaining or contenders)
        evidence = self._evidence(results, winner, last, control)
        sentence = self._sentence(
            results, winner, last, control, evidence.gain, joins=bool(gaining), tries_left=tries_left
        )
        return Decision(winner, bool(gaining), sentence, evidence)

    def difference(self, one: CandidateResult, other: CandidateResult) -> Estimate:
        """Return how much better ``one`` is than ``other``, over the folds that both were scored in."""
        folds = min(len(one.folds), len(other.folds))
        mine, theirs = (_values(self._measure, each, folds) for each in (one, other))
        return self._estimate(mine - theirs)

    def _evidence(
        self,
        results: Sequence[CandidateResult],
        winner: CandidateResult | None,
        last: CandidateResult | None,
        control: CandidateResult | None,
    ) -> Evidence:
        values, base = [], measured_from(last, control)
        for result in results:
            mean = self._mean(_values(self._measure, result))
            noise = UNKNOWN
            if not result.score.diverged:
                noise = (
                    self._estimate(_values(self._measure, result)) if base is None else self.difference(result, base)
                )
            values.append(replace(noise, mean=abs(mean)))
        gain = self.difference(winner, base) if winner and base else None
        of_control = None if control is None else abs(self._mean(_values(self._measure, control)))
        return Evidence(self._measure, gain, tuple(values), of_control)

    def _gains(self, result: CandidateResult, last: CandidateResult, candidates: int) -> bool:
        return self.difference(result, last).above(self._min_delta, (1 - self._confidence) / candidates)

    def _may_win(
        self,
        result: CandidateResult,
        best: CandidateResult,
        last: CandidateResult | None,
        candidates: int,
        share: float,
    ) -> bool:
        if result.score.diverged or best.score.diverged:
            return not result.score.diverged
        # A larger one must be better by more than one standard error, a smaller one may be worse by no more than that.
        errors = 1.0 if result.trainable_params > best.trainable_params else -1.0
        chances = [self.difference(result, best).chance_to_end_above(errors, share)]
        if last is not None:
            gain = self.difference(result, last)
            needed = gain.errors_above((1 - self._confidence) / candidates)
            chances.append(gain.chance_to_end_above(needed, share, self._min_delta))
        return min(chances) >= _LEAST_CHANCE

    def _smallest_of_the_best(self, contenders: Sequence[CandidateResult]) -> CandidateResult:
        best = min(contenders, key=self.rank)
        alike = [each for each in contenders if each is best or self._alike(best, each)]
        return min(alike, key=lambda each: (each.trainable_params, self.rank(each)))

    def _alike(self, best: CandidateResult, other: CandidateResult) -> bool:
        difference = self.difference(best, other)
        return difference.mean <= difference.error

    def _mean(self, values: NDArray[np.float64]) -> float:
        if not np.isfinite(values).all():
            return -math.inf
        return math.fsum(weights_of(self._classes(len(values))) * values)

    def _estimate(self, values: NDArray[np.float64]) -> Estimate:
        return estimate(values, np.concatenate(self._sources)[: len(values)], self._classes(len(values)))

    def _classes(self, samples: int) -> NDArray[np.int64]:
        """Return the classes that count alike, of the first ``samples`` samples; all in one where all samples do."""
        if self._measure != "balanced_accuracy":
            return np.zeros(samples, dtype=np.int64)
        return np.concatenate(self._labels)[:samples]

    def _sentence(
        self,
        results: Sequence[CandidateResult],
        winner: CandidateResult,
        last: CandidateResult | None,
        control: CandidateResult | None,
        gain: Estimate | None,
        *,
        joins: bool,
        tries_left: int,
    ) -> str:
        label, step = winner.candidate.label, winner.candidate.step
        value = f"{self._measure.replace('_', ' ')} {abs(self._mean(_values(self._measure, winner))):.4f}"
        better, worse = ("lower", "higher") if self._measure == "loss" else ("higher", "lower")
        if last is None or gain is None:
            head = f"step {step}: {label} joins: {value}"
        elif joins:
            brought = _brought_along(winner, last)
            difference = f"{gain.mean:.4f} +- {gain.error:.4f} {better}{_than(winner, last, control)}"
            head = f"step {step}: {label} joins{brought}: {value}, {difference}"
        else:
            difference = f"{abs(gain.mean):.4f} +- {gain.error:.4f} {better if gain.mean >= 0 else worse}"
            difference += _than(winner, last, control)
            why = ""
            if gain.mean > 0:
                why = (
                    f", which is not clearly above {self._min_delta:g}"
                    if self._min_delta
                    else ", which is within noise"
                )
            head = f"step {step}: no block joins: {label} has {value}, {difference}{why}; {_what_follows(tries_left)}"
        others = sorted((each for each in results if each is not winner), key=self.rank)
        told = [f"{each.candidate.label} {self._beside(winner, each)}" for each in others[:_OTHERS_NAMED]]
        more = [f"{len(others) - _OTHERS_NAMED} others"] if len(others) > _OTHERS_NAMED else []
        return "; ".join([head, *told, *more])

    def _beside(self, winner: CandidateResult, other: CandidateResult) -> str:
        if other.score.diverged:
            return "diverged"
        if len(other.folds) < len(winner.folds):
            return f"dropped after {len(other.folds)} of {len(winner.folds)} folds"
        if not other.finished:
            return f"stopped after {len(other.epochs)} epochs"
        difference = self.difference(winner, other)
        told = f"{abs(difference.mean):.4f} +- {difference.error:.4f}"
        if difference.mean > difference.error:
            return f"{told} worse"
        if difference.mean >= 0:
            return "no better"
        # Smaller ones win over those that are alike, and those that have gained over those that may not have.
        better = "lower" if self._measure == "loss" else "higher"
        alike = -difference.mean <= difference.error
        return f"{told} {better}, which is {'alike' if alike else 'no gain beyond noise'}"


def measured_from(last: CandidateResult | None, control: CandidateResult | None) -> CandidateResult | None:
    """Return what a step's gains are measured from; none at the first step.

    That is the last whose block joined; or its ``control``, so that a gain is that of the block alone, and not also
    that of the epochs for which every candidate learned since. A control that diverged measures nothing.
    """
    return last if control is None or control.score.diverged else control


def rule_of(settings: SearchSettings, folds: Sequence[Fold]) -> Rule:
    """Return the rule that ``settings`` ask for."""
    if not settings.knows_noise(len(folds)):
        return HighestAccuracy(settings.min_delta)
    return PairedEvidence(settings.decides, settings.confidence, settings.min_delta, folds)


def _values(measure: Measure, result: CandidateResult, folds: int | None = None) -> NDArray[np.float64]:
    """Return the measure of each sample of the first ``folds`` folds, better being higher."""
    return np.concatenate([_of_outcomes(measure, fold.outcomes) for fold in result.folds[:folds]])


def _of_outcomes(measure: Measure, outcomes: Outcomes) -> NDArray[np.float64]:
    return -outcomes.losses if measure == "loss" else outcomes.right.astype(np.float64)


def _brought_along(winner: CandidateResult, last: CandidateResult) -> str:
    """Return which blocks come with the winner's, of the steps without gain since ``last`` joined; may be empty."""
    below = [f"{candidate.label} of step {candidate.step}" for candidate in _tried(winner, last)]
    return f", and with it {' and '.join(below)}" if below else ""


def _tried(winner: CandidateResult, last: CandidateResult) -> list[Candidate]:
    """Return the candidates of the steps without gain since ``last`` joined that ``winner`` stands on."""
    return [each.candidate for each in winner.path[:-1] if each.candidate.step > last.candidate.step]


def _than(winner: CandidateResult, last: CandidateResult, control: CandidateResult | None) -> str:
    """Return what the winner's gain is measured from, where a step has a control."""
    if control is None:
        return ""
    if control.score.diverged:
        return " than before (the control diverged)"
    steps = [str(candidate.step) for candidate in (*_tried(winner, last), winner.candidate)]
    without = "it" if len(steps) == 1 else f"the blocks of steps {' and '.join(steps)}"
    return f" than without {without} after as many epochs"


def _what_follows(tries_left: int) -> str:
    if tries_left:
        return f"up to {tries_left} more step{'s' * (tries_left != 1)} may be tried"
    return "growth ends"
