import json
import math

import pytest

from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.training.fit import Epoch, Score


def result(step: int, k: int, accuracy: float, loss: float = 1.0, params: int = 100) -> CandidateResult:
    epochs = (Epoch(1, 2.0, Score(0.99, 0.01)), Epoch(2, 1.0, Score(accuracy, loss)))
    return CandidateResult(Candidate(step, k, seed=k), channels=1, trainable_params=params, epochs=epochs)


def best(*results: CandidateResult) -> int:
    return min(results, key=CandidateResult.rank).candidate.k


def test_a_candidate_is_scored_by_its_last_epoch() -> None:
    assert result(1, 8, 0.5).score == Score(0.5, 1.0)


def test_the_best_has_the_highest_accuracy() -> None:
    assert best(result(1, 1, 0.5, 0.1, 1), result(1, 2, 0.6, 9.0, 999)) == 2


def test_equal_accuracy_is_decided_by_the_lower_loss() -> None:
    assert best(result(1, 1, 0.5, 0.2, 1), result(1, 2, 0.5, 0.1, 999)) == 2
    assert best(result(1, 1, 0.5, math.inf, 1), result(1, 2, 0.5, 9.9, 999)) == 2


def test_equal_loss_too_is_decided_by_fewer_weights_and_then_by_k() -> None:
    assert best(result(1, 1, 0.5, 0.1, 999), result(1, 2, 0.5, 0.1, 998)) == 2
    assert best(result(1, 2, 0.5, 0.1, 5), result(1, 1, 0.5, 0.1, 5)) == 1


@pytest.fixture
def stopped() -> History:
    first, second = result(1, 8, 0.5), result(1, 16, 0.75, math.inf)
    last = result(2, 8, 0.75)
    return History((Step(1, (first, second), second), Step(2, (last,), None)))


def test_there_is_a_block_for_each_step_that_chose_one(stopped: History) -> None:
    assert [block.candidate.k for block in stopped.blocks] == [16]
    assert stopped.stopped == "no gain"
    assert History(stopped.steps[:1]).stopped == "max_layers"


def test_the_summary_has_every_candidate_and_is_json(stopped: History) -> None:
    summary = json.loads(json.dumps(stopped.as_json(), allow_nan=False))
    assert {name: summary[name] for name in ("final_val_accuracy", "num_layers", "total_trainable_params")} == {
        "final_val_accuracy": 0.75,
        "num_layers": 1,
        "total_trainable_params": 100,
    }
    assert summary["stopped"] == "no gain"
    assert summary["architecture"] == [{"layer": 1, "kind": "conv", "k": 16, "channels": [1, 16], "val_accuracy": 0.75}]
    candidates = [(c["layer"], c["k"], c["val_loss"], c["chosen"]) for c in summary["candidates"]]
    assert candidates == [(1, 8, 1.0, False), (1, 16, None, True), (2, 8, 1.0, False)]
