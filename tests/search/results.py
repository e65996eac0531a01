"""Steps as a search would leave them, for tests of what reads them."""

from collections.abc import Sequence

from spacewarps.search.decisions import HighestAccuracy
from spacewarps.search.history import CandidateResult, Decision, Step
from spacewarps.training.score import Outcomes

TEN_WRONG = Outcomes(bytes(50))


def step_of(
    number: int,
    results: Sequence[CandidateResult],
    kept: Sequence[CandidateResult],
    predicted: Sequence[float | None] | None = None,
) -> Step:
    """Return the step of ``results`` of which the best by accuracy won, and joined if any is ``kept``."""
    winner = min(results, key=HighestAccuracy(0.0).rank)
    decision = Decision(winner, bool(kept), f"step {number}")
    return Step(number, tuple(results), tuple(kept), tuple(predicted or [None] * len(results)), decision)
