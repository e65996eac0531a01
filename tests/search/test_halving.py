from collections.abc import Callable
from typing import Any

import pytest

from spacewarps.errors import ParamsError
from spacewarps.model.storage import pack_model
from spacewarps.search.history import Candidate, CandidateResult, Step
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.settings import WarmStart
from spacewarps.search.strategies.beam import Beam
from spacewarps.training.settings import Optimiser

Search = Callable[..., SearchResult]

KS = [1, 2, 3, 4, 6]


def lengths(step: Step) -> list[int]:
    return sorted(len(result.epochs) for result in step.candidates)


def survivors(whole: Step, rungs: list[int]) -> dict[int, int]:
    """Return after how many epochs each ``k`` stops, by what all of them did when none was stopped."""
    left = list(whole.candidates)
    stopped: dict[int, int] = {}
    for rung in rungs[:-1]:
        left.sort(key=lambda r: (-r.epochs[rung - 1].validation.accuracy, r.epochs[rung - 1].validation.loss))
        better = (len(left) + 1) // 2
        stopped |= {result.candidate.block.k: rung for result in left[better:]}
        left = left[:better]
    return stopped | {result.candidate.block.k: rungs[-1] for result in left}


@pytest.fixture(scope="module")
def whole(search: Search) -> Step:
    return search(k_candidates=KS, max_layers=1, epochs_per_eval=4).history.steps[0]


@pytest.mark.parametrize(("halving", "rungs"), [(1, [2, 4]), (2, [1, 2, 4]), (3, [1, 2, 4]), (16, [1, 2, 4])])
def test_the_better_half_goes_on_with_the_bits_that_it_has_without_halving(
    search: Search, whole: Step, halving: int, rungs: list[int]
) -> None:
    step = search(k_candidates=KS, max_layers=1, epochs_per_eval=4, halving=halving).history.steps[0]
    assert {result.candidate.block.k: len(result.epochs) for result in step.candidates} == survivors(whole, rungs)
    for halved, through in zip(step.candidates, whole.candidates, strict=True):
        assert halved.candidate == through.candidate
        assert halved.epochs == through.epochs[: len(halved.epochs)]
        assert halved.finished == (len(halved.epochs) == 4)
        assert halved.trainable_params == through.trainable_params


@pytest.mark.parametrize(
    ("epochs", "halving", "count", "expected"),
    [
        (6, 1, 5, [3, 3, 6, 6, 6]),
        (6, 2, 5, [2, 2, 3, 6, 6]),
        (5, 1, 4, [3, 3, 5, 5]),
        (3, 2, 4, [1, 1, 2, 3]),
        (1, 3, 4, [1, 1, 1, 1]),
        (4, 2, 1, [4]),
        (4, 0, 3, [4, 4, 4]),
    ],
)
def test_of_odd_numbers_the_larger_half_goes_on_and_the_longer_part_is_first(
    search: Search, epochs: int, halving: int, count: int, expected: list[int]
) -> None:
    found = search(k_candidates=KS[:count], max_layers=1, epochs_per_eval=epochs, halving=halving)
    assert lengths(found.history.steps[0]) == expected


def test_without_halving_the_winner_is_the_same_to_the_bit_where_it_survives(search: Search) -> None:
    for seed in range(10):
        options = {"k_candidates": KS[:3], "max_layers": 1, "epochs_per_eval": 2, "seed": seed}
        whole, halved = search(**options), search(**options, halving=1)
        if whole.history.blocks[0].candidate == halved.history.blocks[0].candidate:
            break
    assert pack_model(halved.model) == pack_model(whole.model)


def test_a_candidate_that_was_stopped_never_joins_however_well_it_stood(search: Search) -> None:
    # At this rate networks often get worse again.
    wild = Optimiser(16, learning_rate=0.3)
    for seed in range(30):
        options = {"k_candidates": [2, 4], "max_layers": 1, "epochs_per_eval": 2, "optimiser": wild}
        (step,) = search(halving=1, seed=seed, **options).history.steps
        assert step.best.finished
        assert step.kept == (step.best,)
        if any(result.score.better_than(step.best.score) for result in step.candidates):
            break
    else:
        pytest.fail("no candidate that was stopped stood better than the winner in the end")


def test_a_beam_keeps_only_those_that_were_trained_to_the_end(search: Search) -> None:
    beam = Beam(4)
    history = search(k_candidates=[2, 4, 6], max_layers=2, epochs_per_eval=2, halving=1, strategy=beam).history
    first = history.steps[0]
    finished = sorted((r for r in first.candidates if r.finished), key=CandidateResult.rank)
    assert len(finished) == 2
    assert first.kept == tuple(finished)


class Counter(SearchObserver):
    def __init__(self) -> None:
        self.promised: list[int] = []
        self.done: list[int] = []
        self.started: list[Candidate] = []
        self.ended: list[Candidate] = []

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:  # noqa: ARG002
        self.promised.append(samples)
        self.done.append(0)

    def batch_trained(self, samples: int) -> None:
        self.done[-1] += samples

    def candidate_started(self, candidate: Candidate) -> None:
        self.started.append(candidate)

    def candidate_finished(self, result: CandidateResult) -> None:
        self.ended.append(result.candidate)


@pytest.mark.parametrize(
    "options",
    [
        {"halving": 1},
        {"halving": 2, "epochs_per_eval": 5},
        {"halving": 2, "trains": "block"},
        {"warm_start": WarmStart("siblings")},
    ],
)
def test_observers_hear_of_the_promised_samples_and_of_every_candidate_once(
    search: Search, options: dict[str, Any]
) -> None:
    counter = Counter()
    history = search(observer=counter, k_candidates=KS, **options).history
    assert counter.done == counter.promised
    candidates = [result.candidate for step in history.steps for result in step.candidates]
    assert sorted(map(str, counter.started)) == sorted(map(str, counter.ended)) == sorted(map(str, candidates))


def test_halving_where_others_are_widened_from_those_it_stops_is_refused(search: Search) -> None:
    with pytest.raises(ParamsError, match=r"^halving stops candidates early that others would be widened from"):
        search(halving=1, warm_start=WarmStart("siblings"))


@pytest.mark.parametrize("halving", [-1, 17])
def test_halvings_out_of_range_are_refused(search: Search, halving: int) -> None:
    with pytest.raises(ParamsError, match=f"halving is {halving}, but input should be"):
        search(halving=halving)
