"""What the search did: every step, every candidate, the winner."""

import math
from dataclasses import dataclass
from typing import Any

from spacewarps.training.fit import Epoch, Score


@dataclass(frozen=True)
class Candidate:
    """One block on trial at a step: its kind, its number of output channels ``k``, its seed."""

    step: int
    k: int
    seed: int
    kind: str = "conv"


@dataclass(frozen=True)
class CandidateResult:
    """How a candidate did: the score is that of its last epoch."""

    candidate: Candidate
    channels: int
    trainable_params: int
    epochs: tuple[Epoch, ...]

    @property
    def score(self) -> Score:
        """The score on validation of the weights that the candidate ended with."""
        return self.epochs[-1].validation

    def rank(self) -> tuple[float, float, int, int]:
        """Return what sorts candidates, best first: accuracy, then lower loss, then fewer weights."""
        return (-self.score.accuracy, self.score.loss, self.trainable_params, self.candidate.k)


@dataclass(frozen=True)
class Step:
    """One growth of the trunk, or the last attempt at one.

    ``chosen`` is the candidate whose block joined the trunk; none in the step that ended the search without gain.
    """

    number: int
    candidates: tuple[CandidateResult, ...]
    chosen: CandidateResult | None


@dataclass(frozen=True)
class History:
    """All steps in order. There is a block in the network for each step that chose one, and for no other."""

    steps: tuple[Step, ...]

    @property
    def blocks(self) -> list[CandidateResult]:
        """The chosen candidates, from the first block to the last."""
        return [step.chosen for step in self.steps if step.chosen is not None]

    @property
    def stopped(self) -> str:
        """Why the search ended."""
        return "no gain" if self.steps and self.steps[-1].chosen is None else "max_layers"

    def as_json(self) -> dict[str, Any]:
        """Return the summary that ``reports/search.json`` holds."""
        blocks = self.blocks
        return {
            "final_val_accuracy": blocks[-1].score.accuracy,
            "num_layers": len(blocks),
            "total_trainable_params": blocks[-1].trainable_params,
            "stopped": self.stopped,
            "architecture": [
                {
                    "layer": block.candidate.step,
                    "kind": block.candidate.kind,
                    "k": block.candidate.k,
                    "channels": [block.channels, block.candidate.k],
                    "val_accuracy": block.score.accuracy,
                }
                for block in blocks
            ],
            "candidates": [
                {
                    "layer": step.number,
                    "kind": result.candidate.kind,
                    "k": result.candidate.k,
                    "val_accuracy": result.score.accuracy,
                    "val_loss": finite(result.score.loss),
                    "trainable_params": result.trainable_params,
                    "chosen": result is step.chosen,
                }
                for step in self.steps
                for result in step.candidates
            ],
        }


def finite(value: float) -> float | None:
    """Return ``value``, or nothing where JSON has no word for it."""
    return value if math.isfinite(value) else None
