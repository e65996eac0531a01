import json
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spacewarps.errors import SpaceWarpsError
from spacewarps.model.settings import BlockSpec
from spacewarps.model.storage import pack_model
from spacewarps.search.history import Candidate, CandidateResult, FoldResult, History, Step
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.strategies import STRATEGIES, make_strategy
from spacewarps.search.strategies.base import Proposal, Strategy
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import score
from spacewarps.training.score import Epoch, Score
from tests.search.results import TEN_WRONG, step_of

Search = Callable[..., SearchResult]

BLOCKS = [BlockSpec(k, kind) for kind in ("conv", "residual") for k in (1, 2, 4, 8)]


def strategy(name: str, beam_width: int = 2, trained_per_step: int = 3) -> Strategy:
    return make_strategy(name, SimpleNamespace(beam_width=beam_width, trained_per_step=trained_per_step))


def result(
    block: BlockSpec, accuracy: float, parent: CandidateResult | None = None, *, finished: bool = True
) -> CandidateResult:
    step = len(parent.path) + 1 if parent else 1
    epochs = (Epoch(1, 1.0, Score(accuracy, 1.0)),)
    return CandidateResult(Candidate(step, block, 0), 1, 100, (FoldResult(epochs, TEN_WRONG),), parent, finished)


def first_step(accuracy: Callable[[BlockSpec], float], more: Sequence[CandidateResult] = ()) -> Step:
    results = (*(result(block, accuracy(block)) for block in BLOCKS), *more)
    return step_of(1, results, sorted(results, key=CandidateResult.rank)[:2])


def chosen(proposals: Sequence[Proposal]) -> list[tuple[int, str, int]]:
    return [(proposal.trunk, proposal.block.kind, proposal.block.k) for proposal in proposals]


def bits(found: SearchResult) -> tuple[bytes, History]:
    return pack_model(found.model), found.history


def test_every_param_has_its_strategy() -> None:
    assert list(STRATEGIES) == ["greedy", "beam", "pnas"]


@pytest.mark.parametrize("name", ["greedy", "beam", "pnas"])
def test_the_first_step_tries_every_block_on_the_empty_trunk(name: str) -> None:
    proposals = strategy(name, trained_per_step=1).propose([None], BLOCKS, [])
    assert proposals == [Proposal(0, block, None) for block in BLOCKS]


def test_greedy_goes_on_with_the_best_alone_and_tries_every_block_on_it() -> None:
    step = first_step(lambda block: block.k / 10)
    assert strategy("greedy", beam_width=5).width == 1
    assert strategy("greedy").propose(step.kept[:1], BLOCKS, [step]) == [Proposal(0, block) for block in BLOCKS]


@pytest.mark.parametrize("width", [1, 2, 3])
def test_beam_tries_every_block_on_each_of_the_best_trunks(width: int) -> None:
    step = first_step(lambda block: block.k / 10)
    beam = strategy("beam", beam_width=width)
    assert beam.width == width
    trunks = sorted(step.candidates, key=CandidateResult.rank)[:width]
    expected = [Proposal(trunk, block) for trunk in range(width) for block in BLOCKS]
    assert beam.propose(trunks, BLOCKS, [step]) == expected


def test_pnas_proposes_the_widest_blocks_where_wider_was_better() -> None:
    step = first_step(lambda block: 0.5 + block.k / 100)
    trunk = step.best
    proposals = strategy("pnas", trained_per_step=4).propose([trunk], BLOCKS, [step])
    assert chosen(proposals) == [(0, "conv", 4), (0, "conv", 8), (0, "residual", 4), (0, "residual", 8)]
    predictions = [proposal.predicted for proposal in proposals]
    assert predictions[0] < predictions[1]  # type: ignore[operator]
    assert predictions[2] < predictions[3]  # type: ignore[operator]


def test_pnas_proposes_the_kind_that_was_better() -> None:
    step = first_step(lambda block: 0.8 if block.kind == "residual" else 0.6)
    proposals = strategy("pnas", trained_per_step=4).propose([step.best], BLOCKS, [step])
    assert chosen(proposals) == [(0, "residual", k) for k in (1, 2, 4, 8)]


def test_pnas_proposes_what_stands_on_the_trunk_that_was_better() -> None:
    first = first_step(lambda _block: 0.5)
    good, bad = result(BLOCKS[0], 0.7), result(BLOCKS[1], 0.5)
    grown = [result(block, 0.8, good) for block in BLOCKS] + [result(block, 0.6, bad) for block in BLOCKS]
    second = step_of(2, grown, [grown[0], grown[8]])
    proposals = strategy("pnas", trained_per_step=8).propose([bad, good], BLOCKS, [first, second])
    assert {proposal.trunk for proposal in proposals} == {1}


def test_pnas_that_sees_no_difference_keeps_to_the_order_of_the_params() -> None:
    step = first_step(lambda _block: 0.5)
    proposals = strategy("pnas", trained_per_step=3).propose([step.candidates[0]], BLOCKS, [step])
    assert chosen(proposals) == [(0, "conv", 1), (0, "conv", 2), (0, "conv", 4)]
    assert [proposal.predicted for proposal in proposals] == [pytest.approx(0.5)] * 3


def test_pnas_does_not_learn_from_candidates_that_were_stopped_early() -> None:
    plain = first_step(lambda block: 0.5 + block.k / 100)
    misleading = [result(BlockSpec(1, kind), 1.0, finished=False) for kind in ("conv", "residual")]
    more = first_step(lambda block: 0.5 + block.k / 100, misleading)
    pnas = strategy("pnas")
    assert pnas.propose([plain.best], BLOCKS, [more]) == pnas.propose([plain.best], BLOCKS, [plain])


def test_pnas_learns_from_all_steps_so_far() -> None:
    first = first_step(lambda block: 0.5 + block.k / 100)
    grown = [result(block, 0.9 - block.k / 20, first.best) for block in BLOCKS]
    second = step_of(2, grown, [grown[0]])
    pnas = strategy("pnas")
    assert pnas.propose([grown[0]], BLOCKS, [first, second]) != pnas.propose([grown[0]], BLOCKS, [first])


def test_pnas_that_may_train_all_trains_all_with_a_prediction_for_each() -> None:
    step = first_step(lambda block: 0.5 + block.k / 100)
    proposals = strategy("pnas", trained_per_step=100).propose(step.kept, BLOCKS, [step])
    assert chosen(proposals) == [(trunk, block.kind, block.k) for trunk in range(2) for block in BLOCKS]
    assert all(isinstance(proposal.predicted, float) for proposal in proposals)


def test_a_beam_of_one_is_the_greedy_search_to_the_bit(search: Search) -> None:
    one = search(strategy=strategy("beam", beam_width=1), max_layers=3, epochs_per_eval=1)
    assert bits(one) == bits(search(strategy=strategy("greedy"), max_layers=3, epochs_per_eval=1))


@pytest.mark.parametrize("trains", ["all", "block"])
def test_a_beam_returns_the_network_of_its_best_path_with_the_weights_that_scored(
    search: Search, validation_data: Space_Galaxi, compute: Compute, trains: Any
) -> None:
    trunks = set()
    for seed in range(3):
        found = search(
            strategy=strategy("beam"), block_kinds=["conv", "separable"], epochs_per_eval=1, seed=seed, trains=trains
        )
        blocks = found.history.blocks
        assert found.model.specs == [block.candidate.block for block in blocks]
        assert score(found.model, validation_data, compute) == blocks[-1].score
        assert found.model.trainable_params == blocks[-1].trainable_params
        for step in found.history.steps:
            best = sorted(step.candidates, key=CandidateResult.rank)
            assert step.kept in ((), tuple(best[:2]))
        for result in found.history.steps[1].candidates:
            assert result.parent == found.history.steps[0].kept[result.candidate.trunk]
        if len(blocks) == 2:
            trunks.add(blocks[-1].candidate.trunk)
    # Some network stands on the trunk that was only the second best.
    assert 1 in trunks


def test_a_candidate_on_the_first_trunk_does_not_depend_on_there_being_a_second(search: Search) -> None:
    greedy, beam = (search(strategy=strategy(name), epochs_per_eval=1).history.steps[1] for name in ("greedy", "beam"))
    assert beam.candidates[: len(greedy.candidates)] == greedy.candidates
    assert len(beam.candidates) == 2 * len(greedy.candidates)


def test_pnas_trains_every_block_first_and_then_the_few_that_it_predicts_to_be_best(search: Search) -> None:
    options = {"k_candidates": [1, 2, 4], "max_layers": 3, "epochs_per_eval": 1}
    found = search(strategy=strategy("pnas", beam_width=2, trained_per_step=2), **options)
    first, *later = found.history.steps
    assert [result.candidate.block.k for result in first.candidates] == [1, 2, 4]
    assert first.predicted == (None, None, None)
    assert len(first.kept) == 2
    assert later
    for step in later:
        assert len(step.candidates) == 2
        assert all(isinstance(predicted, float) for predicted in step.predicted)
    again = search(strategy=strategy("pnas", beam_width=2, trained_per_step=2), **options)
    assert bits(again) == bits(found)
    summary = found.history.as_json()["candidates"]
    predictions = [predicted for step in found.history.steps for predicted in step.predicted]
    assert [candidate["predicted_val_accuracy"] for candidate in summary] == predictions


class Odd(Strategy):
    """Proposes what it is told to at the second step."""

    def __init__(self, make: Callable[[BlockSpec], list[Proposal]]) -> None:
        self._make = make

    @property
    def width(self) -> int:
        return 2

    def propose(
        self, trunks: Sequence[CandidateResult | None], blocks: Sequence[BlockSpec], steps: Sequence[Step]
    ) -> list[Proposal]:
        return self._make(blocks[0]) if steps else self.all_extensions(trunks, blocks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _block: [], "proposes nothing; it must propose one block at least"),
        (lambda block: [Proposal(0, block)] * 2, "proposes conv k=2 on trunk 0 twice; once is enough"),
        (lambda block: [Proposal(3, block)], "proposes conv k=2 on trunk 3, but the trunks are 0 to 1"),
        (lambda block: [Proposal(-1, block)], "proposes conv k=2 on trunk -1, but the trunks are 0 to 1"),
        (
            lambda block: [Proposal(0, block, math.nan)],
            "predicts an accuracy of nan for conv k=2; it must be a number, or none",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_of_the_step_is_trained(
    search: Search, make: Callable[[BlockSpec], list[Proposal]], message: str
) -> None:
    started = []

    class Watch(SearchObserver):
        def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:  # noqa: ARG002
            started.append(step)

    with pytest.raises(SpaceWarpsError) as caught:
        search(strategy=Odd(make), epochs_per_eval=1, patience=2, observer=Watch())
    assert str(caught.value) == f"the strategy Odd, asked for step 2, {message}"
    assert started == [1]


def test_numbers_of_numpy_do_in_a_proposal(search: Search) -> None:
    numpy = Odd(lambda block: [Proposal(np.int64(1), block, np.float32(0.5))])  # type: ignore[arg-type]
    plain = Odd(lambda block: [Proposal(1, block, 0.5)])
    found, expected = (search(strategy=each, epochs_per_eval=1, patience=2) for each in (numpy, plain))
    assert json.dumps(found.history.as_json()) == json.dumps(expected.history.as_json())
