"""The control of a step: the last network that joined, after as many epochs as the candidates have behind them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spacewarps.errors import ParamsError
from spacewarps.model.morphisms import scale_and_jitter
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.params import SearchParams
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.decisions import PairedEvidence, measured_from
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, CandidateResult
from spacewarps.search.journal import FolderJournal, Journal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.settings import SearchSettings, WarmStart
from spacewarps.search.strategies.base import Strategy
from spacewarps.search.strategies.beam import Beam
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.search.strategies.pnas import Pnas
from spacewarps.seeds import torch_generator
from spacewarps.settings import SettingsError
from spacewarps.testing.data import OPTIMISER, bits, small_compute, small_folds, small_search
from spacewarps.training.score import Score
from spacewarps.training.training import Training, run_epoch

OFF = SearchSettings(max_layers=2, k_candidates=(1, 2, 8), epochs_per_eval=2, patience=2)
ON = replace(OFF, control=True)


class Kept(Journal):
    """Keeps what was evaluated."""

    def __init__(self) -> None:
        self.ends: dict[tuple[Candidate, int], tuple[Evaluation, Checkpoint]] = {}

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        self.ends[evaluation.candidate, evaluation.fold] = evaluation, checkpoint


class Counts(SearchObserver):
    def __init__(self) -> None:
        self.steps: list[tuple[list[Candidate], int]] = []
        self.learned: list[int] = []
        self.ended: list[CandidateResult] = []

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:  # noqa: ARG002
        self.steps.append((candidates, samples))
        self.learned.append(0)

    def batch_trained(self, samples: int) -> None:
        self.learned[-1] += samples

    def candidate_finished(self, result: CandidateResult) -> None:
        self.ended.append(result)


def controls(result: SearchResult) -> list[CandidateResult]:
    return [step.control for step in result.history.steps if step.control is not None]


def control_of(result: SearchResult, step: int) -> CandidateResult:
    found = result.history.steps[step - 1].control
    assert found is not None
    return found


def learned_on(source: bytes, candidate: Candidate, fold: Fold, epochs: int) -> bytes:
    """Return a packed network after as many epochs more, each started as a candidate's is."""
    model = unpack_model(source)
    scale_and_jitter(model, 1.0, 0.05, torch_generator(candidate.seed, "jitter"))
    training = Training(
        model,
        epochs=epochs,
        labels=fold.train.labels,
        optimiser=OPTIMISER,
        compute=small_compute(),
        seed=candidate.seed,
    )
    for _ in range(epochs):
        list(run_epoch([training], *fold, batch_size=OPTIMISER.batch_size, seed=candidate.seed))
    return pack_model(model)


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    return small_folds(2)


def test_what_gains_by_its_epochs_alone_does_not_join(folds: Sequence[Fold]) -> None:
    kept = Kept()
    off, on = small_search(folds, OFF), small_search(folds, ON, journal=kept)
    before, step = off.history.steps[1], on.history.steps[1]
    assert before.decision.joins
    assert not step.decision.joins
    # The candidates are the same, to the bit, and so is what they stand on.
    assert (on.history.steps[0], step.candidates) == (off.history.steps[0], before.candidates)
    control = control_of(on, 2)
    gain = PairedEvidence("loss", 0.95, 0.0, folds).difference(step.best, control)
    evidence = step.decision.evidence
    assert evidence is not None
    assert evidence.gain == gain
    assert [each.error for each in evidence.values] == [
        PairedEvidence("loss", 0.95, 0.0, folds).difference(each, control).error for each in step.candidates
    ]
    assert step.decision.sentence.startswith(
        f"step 2: no block joins: conv k=8 has loss {step.best.score.loss:.4f}, {-gain.mean:.4f} +- {gain.error:.4f} "
        "higher than without it after as many epochs; growth ends; "
    )
    # And the control is that network, learning on in each fold.
    first = on.history.steps[0].best
    assert control.path == (control,)
    assert (control.channels, control.trainable_params) == (first.channels, first.trainable_params)
    for number, fold in enumerate(folds):
        source, own = kept.ends[first.candidate, number][1].network, kept.ends[control.candidate, number]
        assert own[1].network == learned_on(source, control.candidate, fold, OFF.epochs_per_eval)
        assert own[0].what == f"step 2, control, fold {number + 1}"


@pytest.mark.parametrize("trains", ["all", "block"])
def test_a_control_has_learned_for_as_long_as_the_candidates_beside_it(folds: Sequence[Fold], trains: Any) -> None:
    kept = Kept()
    settings = replace(ON, max_layers=3, patience=3, k_candidates=(8,), min_delta=0.9, trains=trains)
    result = small_search(folds, settings, journal=kept)
    assert [step.decision.joins for step in result.history.steps] == [True, False, False]
    last = result.history.steps[2].decision.sentence
    assert " than without the blocks of steps 2 and 3 after as many epochs; growth ends" in last
    winner, second, third = result.history.steps[0].best, control_of(result, 2), control_of(result, 3)
    for fold in range(2):
        for source, control in ((winner, second), (second, third)):
            before, (evaluation, after) = kept.ends[source.candidate, fold][1], kept.ends[control.candidate, fold]
            assert evaluation.source == before.network
            # Beside its new block a candidate trains projector and head, and so does the control.
            states = [unpack_model(packed.network).state_dict() for packed in (before, after)]
            changed = {name.partition(".")[0] for name in states[0] if not torch.equal(*(s[name] for s in states))}
            assert changed == {"projector", "head", *(["trunk"] if trains == "all" else [])}


def test_a_control_goes_on_from_what_joined_last(folds: Sequence[Fold]) -> None:
    kept, settings = Kept(), replace(ON, max_layers=3, k_candidates=(8,), trains="block", confidence=0.5)
    result = small_search(folds, settings, journal=kept)
    assert [step.decision.joins for step in result.history.steps][:2] == [True, True]
    assert " lower than without it after as many epochs" in result.history.steps[1].decision.sentence
    second, control = result.history.steps[1].best, control_of(result, 3)
    assert kept.ends[control.candidate, 1][0].source == kept.ends[second.candidate, 1][1].network
    assert [each.candidate for each in control.path] == [result.history.steps[0].best.candidate, control.candidate]


@pytest.mark.parametrize(("number", "changes"), [(3, {"racing": True}), (1, {"halving": 1}), (2, {})])
def test_a_control_goes_through_all_rungs_and_is_counted(number: int, changes: dict[str, Any]) -> None:
    counts, settings = Counts(), replace(ON, **changes)
    result = small_search(small_folds(number), settings, observer=counts)
    (control,) = controls(result)
    assert (len(control.folds), len(control.epochs), control.finished) == (number, 2, True)
    assert control in counts.ended
    assert any(not each.finished for each in result.history.steps[1].candidates) == bool(changes)
    assert [len(candidates) for candidates, _ in counts.steps] == [3, 4]
    assert counts.steps[1][0][-1] == control.candidate
    for (_, samples), learned in zip(counts.steps, counts.learned, strict=True):
        assert learned <= samples
        assert settings.racing or learned == samples
    assert result.evaluated == 7


def test_a_race_is_run_against_the_control() -> None:
    folds, settings = small_folds(3), replace(OFF, k_candidates=(1, 2, 4), racing=True)
    off, on = (small_search(folds, replace(settings, control=each)).history.steps[1] for each in (False, True))
    assert [len(each.folds) for each in off.candidates] == [2, 1, 3]
    # With fewer chances to gain, one more stops after the first fold.
    assert [len(each.folds) for each in on.candidates] == [1, 1, 3]


@pytest.mark.parametrize("strategy", [Greedy(), Beam(2), Pnas(2, 2)])
def test_a_journal_knows_controls_and_what_was_evaluated_without_one(
    folds: Sequence[Fold], strategy: Strategy, tmp_path: Path
) -> None:
    settings = replace(OFF, max_layers=2, k_candidates=(2, 8))
    off = small_search(folds, settings, strategy=strategy, journal=FolderJournal(tmp_path, every_epoch=True))
    first, again = (
        small_search(
            folds,
            replace(settings, control=True),
            strategy=strategy,
            journal=FolderJournal(tmp_path, every_epoch=True),
        )
        for _ in range(2)
    )
    assert not controls(off)
    assert (first.evaluated, first.found) == (1, off.evaluated)
    assert (again.evaluated, again.found) == (0, off.evaluated + 1)
    assert bits(first) == bits(again)
    assert control_of(again, 2).candidate.block == again.history.steps[0].best.candidate.block


def test_the_summary_says_what_a_control_came_to(folds: Sequence[Fold]) -> None:
    result = small_search(folds, replace(ON, decides="balanced_accuracy"))
    first, second = result.history.as_json()["decisions"]
    control = control_of(result, 2)
    assert "control" not in first
    told = second["control"]
    assert (told["epochs"], told["val_accuracy"], told["val_loss"]) == (2, control.score.accuracy, control.score.loss)
    value = told["value"]
    winner = next(
        each for each in result.history.as_json()["candidates"] if (each["layer"], each["k"]) == (2, second["k"])
    )
    assert winner["value"] - value == pytest.approx(second["gain"])
    assert "control" not in small_search(folds, OFF).history.as_json()["decisions"][1]


def test_a_control_that_diverged_measures_nothing(folds: Sequence[Fold]) -> None:
    result = small_search(folds, ON)
    last, step = result.history.steps[0].best, result.history.steps[1]
    epochs = tuple(replace(epoch, validation=Score(0.3, math.inf)) for epoch in last.epochs)
    diverged = replace(control_of(result, 2), folds=tuple(replace(each, epochs=epochs) for each in last.folds))
    assert measured_from(last, diverged) is last
    decision = PairedEvidence("loss", 0.95, 0.0, folds).decide(step.candidates, last, tries_left=0, control=diverged)
    assert decision.joins
    assert " lower than before (the control diverged); " in decision.sentence


@pytest.mark.parametrize("mode", ["none", "siblings"])
def test_a_control_is_refused_where_candidates_have_unlike_epochs(mode: Any) -> None:
    with pytest.raises(SettingsError, match=f"but warm_start.mode is {mode}, .*; set warm_start.mode to previous, or"):
        SearchSettings(control=True, warm_start=WarmStart(mode))


def test_a_control_is_refused_where_decisions_know_no_noise() -> None:
    settings = SearchSettings(control=True, decides="accuracy")
    message = "^control goes with decisions that know their noise, but decides is accuracy on one fold; set control to"
    with pytest.raises(ParamsError, match=message):
        small_search(small_folds(1), settings)
    with pytest.raises(SettingsError, match=message):
        SearchParams(control=True, decides="accuracy", folds=1)
    assert SearchParams(control=True, decides="accuracy", folds=2).control
