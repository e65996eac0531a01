import json
import math

import pytest

from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import Candidate, CandidateResult, FoldResult, History, Step
from spacewarps.training.score import Epoch, Score
from tests.search.results import TEN_WRONG
from tests.search.results import step_of as make_step


def result(
    step: int,
    k: int,
    accuracy: float,
    loss: float = 1.0,
    params: int = 100,
    *,
    kind: str = "conv",
    kernel_size: int = 3,
    trunk: int = 0,
    parent: CandidateResult | None = None,
    finished: bool = True,
) -> CandidateResult:
    epochs = (Epoch(1, 2.0, Score(0.99, 0.01)), Epoch(2, 1.0, Score(accuracy, loss)))
    candidate = Candidate(step, BlockSpec(k, kind, kernel_size), seed=k, trunk=trunk)
    channels = parent.candidate.block.k if parent else 1
    return CandidateResult(candidate, channels, params, (FoldResult(epochs, TEN_WRONG),), parent, finished)


def step_of(number: int, *results: CandidateResult, kept: int = 1, predicted: list[float | None] | None = None) -> Step:
    best = sorted(results, key=CandidateResult.rank)[:kept]
    return make_step(number, results, best, predicted)


def best(*results: CandidateResult) -> CandidateResult:
    assert step_of(1, *results).best == step_of(1, *results[::-1]).best
    return step_of(1, *results).best


def test_a_candidate_is_scored_by_its_last_epoch() -> None:
    assert result(1, 8, 0.5).score == Score(0.5, 1.0)


def test_the_best_has_the_highest_accuracy() -> None:
    assert best(result(1, 1, 0.5, 0.1, 1), result(1, 2, 0.6, 9.0, 999)).candidate.block.k == 2


def test_equal_accuracy_is_decided_by_the_lower_loss() -> None:
    assert best(result(1, 1, 0.5, 0.2, 1), result(1, 2, 0.5, 0.1, 999)).candidate.block.k == 2
    assert best(result(1, 1, 0.5, math.inf, 1), result(1, 2, 0.5, 9.9, 999)).candidate.block.k == 2


def test_equal_loss_too_is_decided_by_fewer_weights() -> None:
    assert best(result(1, 1, 0.5, 0.1, 999), result(1, 2, 0.5, 0.1, 998)).candidate.block.k == 2


def test_equal_candidates_are_ranked_by_trunk_k_kernel_and_kind() -> None:
    order = [
        result(2, 9, 0.5, kernel_size=5, kind="separable"),
        result(2, 1, 0.5, trunk=1, kernel_size=5, kind="separable"),
        result(2, 2, 0.5, trunk=1, kernel_size=1, kind="separable"),
        result(2, 2, 0.5, trunk=1, kernel_size=3, kind="conv"),
        result(2, 2, 0.5, trunk=1, kernel_size=3, kind="residual"),
    ]
    turned = order[::-1]
    assert sorted(turned, key=CandidateResult.rank) == order


def test_one_that_was_stopped_early_is_never_before_one_that_was_not() -> None:
    stopped, finished = result(1, 1, 1.0, 0.0, 1, finished=False), result(1, 2, 0.0, math.inf, 999)
    assert best(stopped, finished) == finished


def test_one_that_diverged_is_last_of_those_trained_as_far() -> None:
    diverged, finite = result(1, 1, 1.0, math.inf, 1), result(1, 2, 0.0, 9.0, 999)
    assert best(diverged, finite) == finite
    halted = result(1, 3, 1.0, math.inf, finished=False), result(1, 4, 0.0, 9.0, finished=False)
    assert best(*halted) == halted[1]
    assert best(diverged, halted[1]) == diverged


@pytest.mark.parametrize(
    ("candidate", "label"),
    [
        (Candidate(1, BlockSpec(8), 0), "conv k=8"),
        (Candidate(1, BlockSpec(8, "residual", 5), 0), "residual 5x5 k=8"),
        (Candidate(3, BlockSpec(16, "inception", 1), 0, trunk=1), "inception 1x1 k=16 on trunk 2"),
    ],
)
def test_a_label_names_the_block_and_a_trunk_that_is_not_the_first(candidate: Candidate, label: str) -> None:
    assert candidate.label == label


@pytest.fixture
def stopped() -> History:
    first, second = result(1, 8, 0.5, math.inf), result(1, 16, 0.75)
    last = result(2, 8, 0.75, parent=second)
    return History((step_of(1, first, second), step_of(2, last, kept=0)))


def test_there_is_a_block_for_each_step_that_kept_one(stopped: History) -> None:
    assert [block.candidate.block.k for block in stopped.blocks] == [16]
    assert stopped.stopped == "no gain"
    assert History(stopped.steps[:1]).stopped == "max_layers"
    assert History(()).blocks == ()


def test_the_blocks_of_a_beam_are_those_below_its_best() -> None:
    first, second = result(1, 8, 0.75), result(1, 4, 0.5)
    on_first = result(2, 8, 0.76, parent=first)
    on_second = result(2, 2, 0.9, trunk=1, parent=second)
    history = History((step_of(1, first, second, kept=2), step_of(2, on_first, on_second, kept=2)))
    assert history.blocks == (second, on_second)
    assert on_second.path == (second, on_second)
    summary = history.as_json()
    assert [(layer["k"], layer["channels"]) for layer in summary["architecture"]] == [(4, [1, 4]), (2, [4, 2])]
    assert [(c["layer"], c["trunk"], c["k"], c["chosen"]) for c in summary["candidates"]] == [
        (1, 1, 8, False),
        (1, 1, 4, True),
        (2, 1, 8, False),
        (2, 2, 2, True),
    ]


def test_the_summary_has_every_candidate_and_is_json(stopped: History) -> None:
    summary = json.loads(json.dumps(stopped.as_json(), allow_nan=False))
    assert {name: summary[name] for name in ("final_val_accuracy", "num_layers", "total_trainable_params")} == {
        "final_val_accuracy": 0.75,
        "num_layers": 1,
        "total_trainable_params": 100,
    }
    assert summary["stopped"] == "no gain"
    assert summary["architecture"] == [
        {"layer": 1, "kind": "conv", "k": 16, "kernel_size": 3, "channels": [1, 16], "val_accuracy": 0.75}
    ]
    candidates = [(c["layer"], c["k"], c["val_loss"], c["epochs"], c["chosen"]) for c in summary["candidates"]]
    assert candidates == [(1, 8, None, 2, False), (1, 16, 1.0, 2, True), (2, 8, 1.0, 2, False)]
    assert {c["predicted_val_accuracy"] for c in summary["candidates"]} == {None}


def ranked(predicted: list[float | None], found: list[float], finished: list[bool] | None = None) -> float | None:
    results = [
        result(2, k, accuracy, finished=end)
        for k, (accuracy, end) in enumerate(zip(found, finished or [True] * len(found), strict=True), start=1)
    ]
    return step_of(2, *results, predicted=predicted).rank_correlation


@pytest.mark.parametrize(
    ("predicted", "found", "correlation"),
    [
        ([0.1, 0.2, 0.3], [0.5, 0.6, 0.9], 1.0),
        ([0.1, 0.2, 0.3], [0.9, 0.6, 0.5], -1.0),
        # 1 - 6 * sum of squared differences / (n * (n * n - 1)), here of 2, 0, 2 and 0.
        ([0.1, 0.2, 0.3, 0.4], [0.3, 0.2, 0.1, 0.9], 0.2),
        ([0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.3, 0.4], 0.8),
        ([0.1, None, 0.3, 0.4], [0.2, 0.9, 0.3, 0.4], 1.0),
        ([None, None], [0.1, 0.2], None),
        ([0.5, 0.5], [0.1, 0.2], None),
        ([0.5, 0.6], [0.2, 0.2], None),
        ([0.5], [0.2], None),
    ],
)
def test_predicted_and_found_accuracies_are_compared_by_their_ranks(
    predicted: list[float | None], found: list[float], correlation: float | None
) -> None:
    assert ranked(predicted, found) == (None if correlation is None else pytest.approx(correlation))


def test_candidates_that_were_stopped_early_are_not_compared_with_their_prediction() -> None:
    assert ranked([0.1, 0.2, 0.3], [0.9, 0.5, 0.6], [False, True, True]) == pytest.approx(1.0)
    assert ranked([0.1, 0.2], [0.9, 0.5], [False, True]) is None


def test_the_predictions_stand_in_the_summary() -> None:
    step = step_of(1, result(1, 8, 0.5), result(1, 4, 0.6), predicted=[0.55, None])
    assert [c["predicted_val_accuracy"] for c in History((step,)).as_json()["candidates"]] == [0.55, None]
