import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from spacewarps.errors import ModelError, ParamsError, SpaceWarpsError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec
from spacewarps.model.storage import load_model, pack_model, save_model
from spacewarps.search.candidate import EpochEnded
from spacewarps.search.executors.base import Event, Job
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.search.observer import SearchObserver, SeveralObservers
from spacewarps.search.progressive import SearchResult
from spacewarps.search.settings import WarmStart
from spacewarps.search.strategies.beam import Beam
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.loaders import create_train_val_dataloaders
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import score
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import Optimiser

Search = Callable[..., SearchResult]


class Recorder(SearchObserver):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def search_started(self, steps: int) -> None:
        self.events.append(("search_started", steps))

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:
        self.events.append(("step_started", step, tuple(candidates), samples))

    def candidate_started(self, candidate: Candidate) -> None:
        self.events.append(("candidate_started", candidate))

    def batch_trained(self, samples: int) -> None:
        self.events.append(("batch_trained", samples))

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:
        self.events.append(("epoch_finished", candidate, fold, epoch))

    def candidate_finished(self, result: CandidateResult) -> None:
        self.events.append(("candidate_finished", result))

    def step_finished(self, step: Step) -> None:
        self.events.append(("step_finished", step))

    def search_finished(self, history: History) -> None:
        self.events.append(("search_finished", history))


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def found(search: Search, recorder: Recorder) -> SearchResult:
    return search(observer=recorder)


def same_weights(one: ProgressiveModel, other: ProgressiveModel) -> bool:
    states = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in states)


def ks_by_step(history: History) -> list[list[int]]:
    return [[result.candidate.block.k for result in step.candidates] for step in history.steps]


def test_it_starts_from_an_empty_network(found: SearchResult) -> None:
    first = found.history.steps[0].candidates
    assert [result.channels for result in first] == [1, 1]
    assert [result.candidate.step for result in first] == [1, 1]


def test_every_k_of_every_step_is_tried(found: SearchResult) -> None:
    assert ks_by_step(found.history) == [[2, 4]] * len(found.history.steps)


def test_each_step_may_have_a_list_of_its_own(search: Search) -> None:
    history = search(k_candidates=[[3], [2, 1], [9]], epochs_per_eval=1).history
    assert ks_by_step(history) == [[3], [2, 1]]


def test_every_kind_and_kernel_is_tried_with_every_k(search: Search) -> None:
    kinds, sizes, ks = ["residual", "conv"], [5, 1], [4, 2]
    history = search(block_kinds=kinds, kernel_sizes=sizes, k_candidates=ks, epochs_per_eval=1, max_layers=1).history
    blocks = [result.candidate.block for result in history.steps[0].candidates]
    assert blocks == [BlockSpec(k, kind, size) for kind in kinds for size in sizes for k in ks]
    seeds = [result.candidate.seed for result in history.steps[0].candidates]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("trains", ["all", "block"])
@pytest.mark.parametrize("mode", ["none", "previous", "siblings"])
def test_networks_of_mixed_blocks_are_grown_and_score_what_the_history_says(
    search: Search, validation_data: Space_Galaxi, compute: Compute, mode: Any, trains: Any
) -> None:
    if (mode, trains) == ("none", "block"):
        with pytest.raises(ParamsError, match="trains is block, which leaves the trunk as it was trained"):
            search(warm_start=WarmStart(mode), trains=trains)
        return
    kinds = ["inception", "separable", "conv"]
    result = search(
        block_kinds=kinds, k_candidates=[4, 5], epochs_per_eval=1, warm_start=WarmStart(mode), trains=trains, seed=1
    )
    assert len(result.history.steps[0].candidates) == 6
    assert result.model.specs == [block.candidate.block for block in result.history.blocks]
    assert score(result.model, validation_data, compute) == result.history.blocks[-1].score


def test_the_trunk_is_the_last_winners_where_only_the_block_learns(search: Search) -> None:
    for seed in range(10):
        shallow = search(trains="block", max_layers=1, seed=seed)
        deep = search(trains="block", max_layers=2, seed=seed)
        if len(deep.model.trunk) == 2:
            break
    before, after = shallow.model.trunk[0].state_dict(), deep.model.trunk[0].state_dict()
    assert len(deep.model.trunk) == 2
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_best_candidate_of_a_step_joins(found: SearchResult) -> None:
    for step in found.history.steps:
        best = min(step.candidates, key=lambda r: (-r.score.accuracy, r.score.loss, r.trainable_params))
        assert step.kept in ((best,), ())
    assert len(found.history.steps[0].kept) == 1
    seeds = [result.candidate.seed for step in found.history.steps for result in step.candidates]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("changes", [{}, {"halving": 1}, {"warm_start": WarmStart("siblings")}])
def test_a_search_in_which_every_candidate_diverges_says_so(search: Search, changes: dict[str, Any]) -> None:
    with pytest.raises(SpaceWarpsError, match=r"no candidate of step 1 ended with a finite loss .*; lower `l"):
        search(optimiser=Optimiser(16, learning_rate=1e38), **changes)


class Diverging(InlineExecutor):
    """Gives the candidates that it is told an accuracy that is perfect and a loss that is not finite."""

    def __init__(self, train: Space_Galaxi, validation: Space_Galaxi, *diverged: tuple[int, int]) -> None:
        super().__init__([Fold(train, validation)])
        self._diverged = diverged

    def submit(self, ticket: int, job: Job) -> None:
        self._candidates = [evaluation.candidate for evaluation in job]
        super().submit(ticket, job)

    def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:
        for ticket, event in super().wait(seconds):
            if isinstance(event, EpochEnded):
                candidate = self._candidates[event.position]
                if event.checkpoint and (candidate.step, candidate.block.k) in self._diverged:
                    epochs = tuple(replace(e, validation=Score(1.0, math.inf)) for e in event.checkpoint.epochs)
                    event = replace(event, epoch=epochs[-1], checkpoint=replace(event.checkpoint, epochs=epochs))
            yield ticket, event


def test_a_candidate_that_diverged_never_joins(
    search: Search, train_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    def kept(*diverged: tuple[int, int]) -> list[list[int]]:
        executor = Diverging(train_data, validation_data, *diverged)
        history = search(executor=executor, epochs_per_eval=1, strategy=Beam(beam_width=2)).history
        return [[result.candidate.block.k for result in step.kept] for step in history.steps]

    assert sorted(kept()[0]) == [2, 4]
    assert kept((1, 2))[0] == [4]
    assert kept((2, 2), (2, 4))[1] == []


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_network_has_the_blocks_of_the_history_and_the_weights_that_scored(
    search: Search, validation_data: Space_Galaxi, compute: Compute, tmp_path: Path, seed: int
) -> None:
    # With candidates of three and steps of four, the winner is now the first of its step, now the last.
    result = search(k_candidates=[2, 4, 3], max_layers=4, epochs_per_eval=1, seed=seed)
    blocks = result.history.blocks
    assert result.model.specs == [block.candidate.block for block in blocks]
    assert len(result.model.trunk) == len(blocks)
    assert result.model.trainable_params == blocks[-1].trainable_params
    assert score(result.model, validation_data, compute) == blocks[-1].score
    save_model(result.model, tmp_path / "model")
    assert score(load_model(tmp_path / "model"), validation_data, compute) == blocks[-1].score


def test_the_weights_that_scored_are_those_of_the_last_epoch(
    search: Search, validation_data: Space_Galaxi, compute: Compute
) -> None:
    for seed in range(20):
        result = search(
            k_candidates=[2], max_layers=1, epochs_per_eval=4, optimiser=Optimiser(16, learning_rate=0.1), seed=seed
        )
        (block,) = result.history.blocks
        if any(epoch.validation.better_than(block.score) for epoch in block.epochs):
            break
    else:
        pytest.fail("the last epoch was the best with every seed")
    assert score(result.model, validation_data, compute) == block.score == block.epochs[-1].validation


def test_growth_stops_when_a_step_gains_no_more_than_min_delta(
    search: Search, validation_data: Space_Galaxi, compute: Compute
) -> None:
    result = search(min_delta=0.99, max_layers=4)
    assert [len(step.kept) for step in result.history.steps] == [1, 0]
    assert result.history.stopped == "no gain"
    assert len(result.model.trunk) == 1
    assert score(result.model, validation_data, compute) == result.history.blocks[0].score


def test_a_gain_of_exactly_min_delta_is_none(search: Search) -> None:
    for seed in range(20):
        steps = search(seed=seed).history.steps
        first, second = (min(step.candidates, key=CandidateResult.rank).score.accuracy for step in steps)
        if second > first:
            break
    else:
        pytest.fail("no seed brings a gain in the second step")
    gain = second - first
    assert first + gain == second
    assert len(search(seed=seed, min_delta=gain).model.trunk) == 1
    assert len(search(seed=seed, min_delta=gain / 2).model.trunk) == 2


def test_every_step_that_joined_gained(search: Search) -> None:
    history = search(max_layers=4, epochs_per_eval=1).history
    accuracies = [block.score.accuracy for block in history.blocks]
    assert accuracies == sorted(set(accuracies))
    assert (history.stopped == "max_layers") == (len(history.blocks) == 4)


def test_the_first_block_joins_even_without_gain(search: Search) -> None:
    result = search(max_layers=1, optimiser=Optimiser(16, learning_rate=1e-30), min_delta=0.9)
    assert len(result.model.trunk) == 1


def test_an_observer_changes_nothing(search: Search, found: SearchResult) -> None:
    silent = search()
    assert silent.history == found.history
    assert same_weights(silent.model, found.model)


def test_the_order_of_the_candidates_changes_nothing(search: Search, found: SearchResult) -> None:
    turned = search(k_candidates=[4, 2])
    assert same_weights(turned.model, found.model)
    for step, other in zip(turned.history.steps, found.history.steps, strict=True):
        assert step.kept == other.kept
        assert step.candidates[::-1] == other.candidates


def test_what_ran_before_changes_nothing(search: Search, found: SearchResult) -> None:
    torch.manual_seed(7)
    torch.rand(100)
    again = search()
    assert again.history == found.history
    assert same_weights(again.model, found.model)


def test_another_seed_gives_another_network(search: Search, found: SearchResult) -> None:
    assert search(seed=4).history != found.history


def test_a_candidate_more_leaves_the_others_as_they_are(search: Search, found: SearchResult) -> None:
    more = search(k_candidates=[2, 3, 4], max_layers=1)
    others = [result for result in more.history.steps[0].candidates if result.candidate.block.k != 3]
    assert others == list(found.history.steps[0].candidates)


def test_a_fresh_start_gives_another_search_than_a_warm_one(search: Search, found: SearchResult) -> None:
    fresh = search(warm_start=WarmStart("none"))
    assert fresh.history != found.history
    assert search(warm_start=WarmStart("none")).history == fresh.history


def test_observers_hear_every_event_in_order(found: SearchResult, recorder: Recorder, train_data: Space_Galaxi) -> None:
    history = found.history
    batches = [("batch_trained", 15)] * 4
    expected: list[tuple[Any, ...]] = [("search_started", 2)]
    for step in history.steps:
        candidates = tuple(result.candidate for result in step.candidates)
        expected.append(("step_started", step.number, candidates, len(train_data) * 2 * 2))
        # The widest first, so that no worker idles at the end.
        for result in step.candidates[::-1]:
            expected.append(("candidate_started", result.candidate))
            for epoch in result.epochs:
                expected += [*batches, ("epoch_finished", result.candidate, 0, epoch)]
            expected.append(("candidate_finished", result))
        expected.append(("step_finished", step))
    expected.append(("search_finished", history))
    assert recorder.events == expected


def test_several_observers_hear_the_same(search: Search, recorder: Recorder, found: SearchResult) -> None:
    assert found.history.steps
    first, second = Recorder(), Recorder()
    search(observer=SeveralObservers(first, second))
    assert first.events == second.events == recorder.events


def test_loaders_are_taken_with_their_batch_size(search: Search, prepared_folder: Path) -> None:
    train, validation = create_train_val_dataloaders(prepared_folder, batch_size=24)
    recorder = Recorder()
    result = search(train=train, validation=validation, observer=recorder, max_layers=1)
    assert {event[1] for event in recorder.events if event[0] == "batch_trained"} == {20}
    data = Space_Galaxi(prepared_folder, split="train", augmentation=Augmentation())
    same = search(train=data, optimiser=Optimiser(24, learning_rate=0.01), max_layers=1)
    assert same.history == result.history
    assert same_weights(same.model, result.model)


def test_normalisers_are_fitted_on_the_training_split_only(found: SearchResult, train_data: Space_Galaxi) -> None:
    expected = ProgressiveModel(train_data.stamp_shape, train_data.feature_names, train_data.classes)
    expected.fit_normalisers(train_data.stamps, train_data.features)
    for part in ("stamp_normaliser", "feature_normaliser"):
        states = zip(getattr(found.model, part).buffers(), getattr(expected, part).buffers(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_layers": 0}, "max_layers is 0, but input should be greater than or equal to 1"),
        ({"epochs_per_eval": 0}, "epochs_per_eval is 0, but input should be greater than or equal to 1"),
        ({"trains": "head"}, "trains is 'head', but input should be 'all' or 'block'"),
        ({"block_kinds": []}, "block_kinds must not be empty"),
        ({"block_kinds": ["conv", "conv"]}, "block_kinds must differ from each other, but got ['conv', 'conv']"),
        (
            {"kernel_sizes": [3, 3]},
            "kernel_sizes must differ from each other, but got [3, 3]",
        ),
        ({"min_delta": -0.1}, "min_delta is -0.1, but input should be greater than or equal to 0"),
        ({"min_delta": math.nan}, "min_delta is nan, but input should be a finite number"),
        ({"k_candidates": []}, "k_candidates must not be empty"),
        ({"k_candidates": [0]}, "k_candidates.0 is 0, but input should be greater than or equal to 1"),
        ({"k_candidates": [4, 4]}, "k_candidates of one step must differ from each other, but got [4, 4]"),
        ({"k_candidates": [[4], []]}, "k_candidates must not be empty"),
        ({"k_candidates": [4, [8]]}, "k_candidates.1 is [8], but input should be a valid integer"),
        ({"k_candidates": [4.0]}, "k_candidates.0 is 4.0, but input should be a valid integer"),
        ({"k_candidates": ["4"]}, "k_candidates.0 is '4', but input should be a valid integer"),
        ({"train": [1, 2]}, "takes Space_Galaxi data sets or loaders of them, but got list"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(search: Search, changes: dict[str, Any], message: str) -> None:
    recorder = Recorder()
    with pytest.raises(ParamsError) as caught:
        search(observer=recorder, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert recorder.events == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"block_kinds": ["dense"]},
            "block_kinds.0 is 'dense', but input should be 'conv', 'residual'",
        ),
        ({"kernel_sizes": [4]}, "kernel_sizes must be odd, so that a map keeps its size, but got 4"),
        (
            {"block_kinds": ["inception"], "k_candidates": [3]},
            "inception blocks need a k of at least 4",
        ),
    ],
)
def test_blocks_that_cannot_be_are_refused_before_any_training(
    search: Search, changes: dict[str, Any], message: str
) -> None:
    recorder = Recorder()
    with pytest.raises(ParamsError, match=message):
        search(observer=recorder, **changes)
    assert recorder.events == []


def test_a_loader_of_something_else_is_refused(search: Search, train_data: Space_Galaxi) -> None:
    with pytest.raises(ParamsError, match="but got Subset"):
        search(train=DataLoader(Subset(train_data, [0, 1])))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"classes": ("A", "QSO", "STAR")}, "classes"),
        ({"features": ("z",)}, "feature_names"),
        ({"channels": 2}, "stamp_shape"),
    ],
)
def test_training_and_validation_of_different_surveys_are_refused(
    search: Search, draw_survey: Callable[..., PreparedSurvey], other: dict[str, Any], what: str
) -> None:
    validation = Space_Galaxi(draw_survey(**other), split="validation")
    with pytest.raises(ParamsError, match=f"training and validation must have the same {what}"):
        search(validation=validation)


def test_more_layers_than_halvings_are_refused_before_any_training(search: Search) -> None:
    recorder = Recorder()
    with pytest.raises(ModelError, match="a stamp of 16 x 16 pixels can be halved 4 times at most, but 5 blocks"):
        search(max_layers=5, observer=recorder)
    assert recorder.events == []


def test_surveys_without_features_and_of_several_channels_are_searched(
    search: Search, draw_survey: Callable[..., PreparedSurvey], compute: Compute
) -> None:
    survey = draw_survey(features=(), channels=3, dtype="float32")
    train, validation = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="validation")
    result = search(train=train, validation=validation)
    assert result.history.blocks[0].channels == 3
    assert score(result.model, validation, compute) == result.history.blocks[-1].score


def test_numbers_of_numpy_do_for_k(search: Search, found: SearchResult) -> None:
    for ks in (np.array([2, 4]), list(np.array([2, 4]))):
        assert search(k_candidates=ks).history == found.history


def test_an_executor_for_other_data_is_refused(
    search: Search, train_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    twins = train_data.without_augmentation(), validation_data.without_augmentation()
    with pytest.raises(ParamsError, match="the executor was made for other data, or another augmentation"):
        search(executor=InlineExecutor([Fold(*twins)]))
    same = search(executor=InlineExecutor([Fold(train_data, twins[1])]), max_layers=1)
    assert pack_model(same.model) == pack_model(search(max_layers=1).model)
