import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from spacewarps.model.settings import BlockSpec
from spacewarps.model.storage import pack_model
from spacewarps.search.decisions import HighestAccuracy, PairedEvidence, Rule, rule_of
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, CandidateResult, FoldResult, Step
from spacewarps.search.journal import FolderJournal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.settings import Measure, SearchSettings
from spacewarps.testing.data import bits, small_folds, small_search
from spacewarps.training.score import Epoch, Outcomes, Score

FOLD = small_folds(1)[0]
SAMPLES = len(FOLD.validation)


def rule(
    measure: Measure = "loss", *, confidence: float = 0.95, min_delta: float = 0.0, folds: int = 1
) -> PairedEvidence:
    return PairedEvidence(measure, confidence, min_delta, [FOLD] * folds)


def result(
    k: int,
    losses: Sequence[float],
    right: Sequence[bool] | None = None,
    *,
    step: int = 2,
    params: int | None = None,
    folds: int = 1,
    finished: bool = True,
) -> CandidateResult:
    outcomes = Outcomes.of(np.array(losses), np.array(right if right is not None else [True] * len(losses)))
    loss, accuracy = float(np.mean(outcomes.losses)), float(outcomes.right.mean())
    epochs = (Epoch(1, 1.0, Score(accuracy, loss)),)
    candidate = Candidate(step, BlockSpec(k), k)
    of_folds = (FoldResult(epochs, outcomes),) * folds
    return CandidateResult(candidate, 1, params or k, of_folds, None, finished)


def noisy(mean: float, spread: float, seed: int = 0) -> list[float]:
    """Return losses of exactly this mean and this spread."""
    values = np.random.default_rng(seed).normal(size=SAMPLES)
    values = (values - values.mean()) / values.std()
    return list(mean + spread * values)


LAST = result(99, [1.0] * SAMPLES, step=1)


def test_a_difference_has_the_mean_and_the_standard_error_of_the_paired_differences() -> None:
    better = result(1, noisy(0.9, 0.2))
    found = rule().difference(better, LAST)
    assert found.mean == pytest.approx(0.1, abs=1e-6)
    # Every source of this survey has one sample.
    assert found.error == pytest.approx(0.2 / math.sqrt(SAMPLES - 1), abs=1e-6)
    opposite = rule().difference(LAST, better)
    assert opposite.mean == pytest.approx(-found.mean)
    assert opposite.error == pytest.approx(found.error)


def test_samples_of_one_source_are_one_witness() -> None:
    pairs = Fold(FOLD.train, FOLD.validation.subset(np.ones(SAMPLES, dtype=bool)))
    pairs.validation.samples["source"] = [f"s{number // 2}" for number in range(SAMPLES)]
    half = noisy(0.9, 0.2)[: SAMPLES // 2]
    twice = result(1, [loss for loss in half for _ in range(2)])
    found = PairedEvidence("loss", 0.95, 0.0, [pairs]).difference(twice, LAST)
    values = 1 - np.array(half)
    assert found.mean == pytest.approx(values.mean(), abs=1e-6)
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)), abs=1e-6)


def test_a_balanced_accuracy_counts_every_class_alike() -> None:
    labels = FOLD.validation.labels.numpy()
    of_one_class = result(1, [1.0] * SAMPLES, labels == 0)
    none = result(2, [1.0] * SAMPLES, [False] * SAMPLES)
    assert rule("balanced_accuracy").difference(of_one_class, none).mean == pytest.approx(1 / 3)
    # All of a class are right in one and none in the other, so nothing varies within the classes.
    assert rule("balanced_accuracy").difference(of_one_class, none).error == pytest.approx(0, abs=1e-12)
    few = FOLD.validation.subset((labels == 0) | (np.cumsum(labels != 0) == 1))
    right = few.labels.numpy() == 0
    rare = PairedEvidence("balanced_accuracy", 0.95, 0.0, [Fold(FOLD.train, few)])
    one, other = result(1, [1.0] * len(few), right), result(2, [1.0] * len(few), ~right)
    assert rare.difference(one, other).mean == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("sigmas", "joins"), [(1.5, False), (1.8, True)])
def test_a_block_joins_when_its_gain_is_more_than_noise(sigmas: float, joins: bool) -> None:
    error = 0.2 / math.sqrt(SAMPLES - 1)
    decision = rule(confidence=0.95).decide([result(1, noisy(1 - sigmas * error, 0.2))], LAST, tries_left=0)
    assert decision.joins is joins
    # Of two, either could gain by chance.
    alike = [result(k, noisy(1 - sigmas * error, 0.2)) for k in (1, 2)]
    assert not rule(confidence=0.95).decide(alike, LAST, tries_left=0).joins


def test_the_gain_must_be_above_min_delta_by_more_than_noise() -> None:
    better = result(1, noisy(0.8, 0.01))
    assert rule(min_delta=0.15).decide([better], LAST, tries_left=0).joins
    assert not rule(min_delta=0.199).decide([better], LAST, tries_left=0).joins


def test_of_candidates_that_are_alike_the_smallest_wins() -> None:
    best, smaller, smallest = (result(k, noisy(mean, 0.1, seed=k)) for k, mean in ((30, 0.50), (20, 0.51), (10, 0.80)))
    assert rule().decide([best, smaller, smallest], LAST, tries_left=0).winner is smaller
    # One that is larger and worse than another does not win, however alike.
    larger = result(25, noisy(0.505, 0.1, seed=1))
    assert rule().decide([larger, best, smaller, smallest], LAST, tries_left=0).winner is smaller


def test_the_smallest_that_gains_wins_over_one_that_does_not() -> None:
    best = result(30, noisy(0.9, 0.05, seed=1))
    # Within a standard error of the best, but not clear of the last.
    vague = result(10, noisy(0.93, 0.4, seed=2))
    assert rule().difference(best, vague).mean < rule().difference(best, vague).error
    assert rule().decide([vague, best], LAST, tries_left=0).winner is best


def test_candidates_that_diverged_or_stopped_early_never_win() -> None:
    diverged, stopped = result(1, [math.inf] * SAMPLES), result(2, [0.0] * SAMPLES, finished=False)
    usual = result(3, noisy(0.5, 0.1))
    decision = rule().decide([diverged, stopped, usual], LAST, tries_left=0)
    assert (decision.winner, decision.joins) == (usual, True)
    decision = rule().decide([diverged], LAST, tries_left=3)
    assert not decision.joins
    assert decision.sentence == "step 2: every candidate diverged, growth ends"


def test_a_decision_is_a_sentence_with_its_figures() -> None:
    best, alike, worse = result(8, noisy(0.5, 0.1)), result(16, noisy(0.505, 0.2, 1)), result(4, noisy(0.9, 0.1, 2))
    decision = rule().decide([worse, best, alike], LAST, tries_left=0)
    error = 0.1 / math.sqrt(SAMPLES - 1)
    assert decision.sentence.startswith(f"step 2: conv k=8 joins: loss 0.5000, 0.5000 +- {error:.4f} lower; ")
    assert "; conv k=16 no better; conv k=4 0.4000 +- " in decision.sentence
    assert decision.sentence.endswith(" worse")
    # The smallest of those that are alike wins, though another is better.
    better = result(16, noisy(0.495, 0.2, 1))
    told = rule().decide([best, better], LAST, tries_left=0)
    assert told.winner is best
    assert re.search(r"; conv k=16 0\.0050 \+- 0\.0\d+ lower, which is alike$", told.sentence)
    none = rule("accuracy").decide([best], LAST, tries_left=2)
    assert none.sentence == (
        "step 2: no block joins: conv k=8 has accuracy 1.0000, 0.0000 +- 0.0000 higher; up to 2 more steps may be tried"
    )


@pytest.mark.parametrize("decided_by", [rule(), HighestAccuracy(0.0)])
def test_a_block_that_joins_brings_those_of_the_steps_without_gain_below_it(decided_by: Rule) -> None:
    last = replace(LAST, folds=result(1, [1.0] * SAMPLES, [False] * SAMPLES).folds)
    tried = [replace(result(k, [1.0] * SAMPLES, step=step), parent=last) for k, step in ((16, 2), (8, 3))]
    second, third = tried[0], replace(tried[1], parent=tried[0])
    better, alone = result(32, noisy(0.5, 0.1), step=4), result(32, noisy(0.5, 0.1), step=2)

    def told(winner: CandidateResult) -> str:
        decision = decided_by.decide([winner], last, tries_left=0)
        assert decision.joins
        return re.split(r"[:,] (?=loss|accuracy)", decision.sentence)[0]

    assert told(replace(alone, parent=last)) == "step 2: conv k=32 joins"
    assert told(replace(better, parent=second)) == "step 4: conv k=32 joins, and with it conv k=16 of step 2"
    assert told(replace(better, parent=third)) == (
        "step 4: conv k=32 joins, and with it conv k=16 of step 2 and conv k=8 of step 3"
    )
    assert "with it" not in decided_by.decide([replace(last, parent=third)], last, tries_left=0).sentence
    # Of trunks that grow side by side, another may be the one that goes on: it brings no block of a step without gain.
    other = replace(result(4, [1.0] * SAMPLES, step=1), parent=None)
    assert told(replace(alone, parent=other)) == "step 2: conv k=32 joins"


@given(st.permutations([(30, 0.50), (20, 0.51), (10, 0.80), (40, 0.49), (25, 0.505)]))
def test_a_decision_does_not_depend_on_the_order_in_which_candidates_end(order: list[tuple[int, float]]) -> None:
    results = [result(k, noisy(mean, 0.1, seed=k)) for k, mean in order]
    assert rule().decide(results, LAST, tries_left=0).winner.candidate.block.k == 20
    # Whatever was let go on the way, the winner was not.
    kept: list[CandidateResult] = []
    for each in results:
        kept = rule().may_win([*kept, each])
    assert {each.candidate.block.k for each in kept} == {10, 20, 25, 30, 40}


ERROR = 0.1 / math.sqrt(SAMPLES - 1)


# Of three folds one is known: z errors so far leave sqrt(3) z in the end, with a spread of sqrt(2). A larger one has to
# be 1 error better, a smaller one at most 1 worse, and 1.645 spreads are a chance of 5%.
@pytest.mark.parametrize(
    ("k", "lags_by", "goes_on"),
    [(9, 0.72, True), (9, 0.82, False), (2, 1.87, True), (2, 1.97, False), (2, math.inf, False)],
)
def test_a_candidate_races_on_while_it_may_be_preferred(k: int, lags_by: float, goes_on: bool) -> None:
    best = result(5, [0.5] * SAMPLES)
    other = result(k, noisy(0.5 + lags_by * ERROR, 0.1) if math.isfinite(lags_by) else [math.inf] * SAMPLES)
    left = rule(folds=3).in_the_race([other, best], None, 3)
    assert left == ([other, best] if goes_on else [best])


def test_a_candidate_races_on_only_while_it_may_gain() -> None:
    # Two candidates share 5% of doubt.
    needed = -stdtrit(SAMPLES - 1, 0.025)
    least = (needed - 1.645 * math.sqrt(2)) / math.sqrt(3)
    last = result(1, [0.5] * SAMPLES, step=1)
    for ahead_by, goes_on in ((least - 0.05, False), (least + 0.05, True)):
        other = result(2, noisy(0.5 - ahead_by * ERROR, 0.1))
        best = result(5, noisy(0.499 - ahead_by * ERROR, 0.1, seed=1))
        assert (other in rule(folds=3).in_the_race([other, best], last, 3)) == goes_on
    # An accuracy by itself knows no noise.
    assert HighestAccuracy(0.0).in_the_race([result(2, [9.0] * SAMPLES), last], last, 3) != [last]


def test_the_accuracy_of_a_single_split_is_compared_as_it_is() -> None:
    assert isinstance(rule_of(SearchSettings(decides="accuracy"), [FOLD]), HighestAccuracy)
    assert isinstance(rule_of(SearchSettings(decides="accuracy"), [FOLD] * 2), PairedEvidence)
    assert isinstance(rule_of(SearchSettings(decides="loss"), [FOLD]), PairedEvidence)


class Watcher(SearchObserver):
    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step_finished(self, step: Step) -> None:
        self.steps.append(step)


EVIDENCE: dict[str, Any] = {"k_candidates": (1, 2, 8), "epochs_per_eval": 3, "decides": "loss"}


def test_a_candidate_that_goes_on_in_a_race_has_the_bits_that_it_would_have_had() -> None:
    folds = small_folds(3)
    settings = SearchSettings(max_layers=1, **EVIDENCE)
    whole, raced = small_search(folds, settings), small_search(folds, replace(settings, racing=True))
    (of_all,), (of_race,) = whole.history.steps, raced.history.steps
    assert any(not each.finished and len(each.folds) < 3 for each in of_race.candidates)
    for one, other in zip(of_all.candidates, of_race.candidates, strict=True):
        assert other.folds == one.folds[: len(other.folds)]
    assert of_race.best == of_all.best
    assert [pack_model(model) for model in raced.models] == [pack_model(model) for model in whole.models]
    assert "dropped after 1 of 3 folds" in of_race.decision.sentence


def test_steps_without_gain_are_tried_and_the_last_that_gained_ends_the_network() -> None:
    folds = small_folds(2)
    # Nothing gains that much.
    settings = SearchSettings(max_layers=3, min_delta=0.9, **EVIDENCE)
    ends, goes_on = (small_search(folds, replace(settings, patience=patience)) for patience in (1, 2))
    assert [step.decision.joins for step in ends.history.steps] == [True, False]
    assert [step.decision.joins for step in goes_on.history.steps] == [True, False, False]
    assert [bool(step.kept) for step in goes_on.history.steps] == [True, True, False]
    assert goes_on.history.steps[:2] != ends.history.steps
    assert [pack_model(model) for model in goes_on.models] == [pack_model(model) for model in ends.models]
    assert len(goes_on.model.trunk) == len(goes_on.history.blocks) == 1
    assert goes_on.history.stopped == "no gain"
    # A third step might have gained, had it been allowed.
    cut = small_search(folds, replace(settings, patience=3))
    assert [step.decision.joins for step in cut.history.steps] == [True, False, False]
    assert cut.history.stopped == "max_layers"
    third = goes_on.history.steps[2].best
    assert third.path[:2] == (goes_on.history.steps[0].best, goes_on.history.steps[1].best)


def test_the_summary_holds_the_decisions_only_where_there_is_evidence() -> None:
    plain = small_search(small_folds(1), SearchSettings(max_layers=2, k_candidates=(2,), decides="accuracy"))
    assert "decisions" not in plain.history.as_json()
    assert "value" not in plain.history.as_json()["candidates"][0]
    found = small_search(small_folds(2), SearchSettings(max_layers=2, **EVIDENCE)).history
    summary = found.as_json()
    assert summary["decides"] == "loss"
    for step, told in zip(found.steps, summary["decisions"], strict=True):
        assert (told["joins"], told["sentence"]) == (step.decision.joins, step.decision.sentence)
    assert summary["decisions"][0]["gain"] is None
    assert summary["decisions"][1]["gain_error"] > 0
    for told, result in zip(summary["candidates"], found.steps[0].candidates, strict=False):
        assert told["value"] == pytest.approx(result.score.loss, rel=1e-6)
        assert told["error"] > 0


def test_a_raced_search_is_resumed_from_a_journal_to_the_same_bits(tmp_path: Any) -> None:
    folds, settings = small_folds(3), SearchSettings(max_layers=2, racing=True, patience=2, **EVIDENCE)
    first = small_search(folds, settings, journal=FolderJournal(tmp_path, every_epoch=True))
    again = small_search(folds, settings, journal=FolderJournal(tmp_path, every_epoch=True))
    assert (again.evaluated, again.found) == (0, first.evaluated)
    assert bits(first) == bits(again) == bits(small_search(folds, settings))
    # More epochs of what was dropped may be in the journal than a race asks for.
    small_search(folds, replace(settings, racing=False), journal=FolderJournal(tmp_path))
    assert bits(small_search(folds, settings, journal=FolderJournal(tmp_path))) == bits(first)
