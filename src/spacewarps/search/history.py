"""What the search did: every step, every candidate, the winner."""

import math
from dataclasses import dataclass
from typing import Any

from spacewarps.model.settings import BlockSpec
from spacewarps.training.score import Epoch, Score, pooled_epochs

_USUAL_KERNEL = 3


@dataclass(frozen=True)
class Candidate:
    """One block on trial at a step: the block, its seed, and the trunk that it stands on.

    Args:
        step: the step, from 1.
        block: its kind, its number of output channels ``k``, its kernel size.
        seed: decides its first weights, its batches and dropout.
        trunk: which of the trunks that grow side by side, from 0.
    """

    step: int
    block: BlockSpec
    seed: int
    trunk: int = 0

    @property
    def label(self) -> str:
        """What people call it."""
        block = self.block
        kernel = "" if block.kernel_size == _USUAL_KERNEL else f" {block.kernel_size}x{block.kernel_size}"
        return f"{block.kind}{kernel} k={block.k}" + (f" on trunk {self.trunk + 1}" if self.trunk else "")


@dataclass(frozen=True)
class FoldResult:
    """How a candidate did in one fold.

    Args:
        epochs: what each epoch came to.
        samples: how many samples it was scored on.
    """

    epochs: tuple[Epoch, ...]
    samples: int


@dataclass(frozen=True)
class CandidateResult:
    """How a candidate did: the score is that of its last epoch.

    Args:
        candidate: what was on trial.
        channels: the channels that come into its block.
        trainable_params: the number of parameters of the whole network.
        folds: how it did in each fold.
        parent: the candidate whose network it grew from; none at the first step.
        finished: whether it was trained to the end, and not stopped early with the worse half.
    """

    candidate: Candidate
    channels: int
    trainable_params: int
    folds: tuple[FoldResult, ...]
    parent: "CandidateResult | None" = None
    finished: bool = True

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """What each epoch came to, over the samples of all folds."""
        return pooled_epochs([fold.epochs for fold in self.folds], [fold.samples for fold in self.folds])

    @property
    def score(self) -> Score:
        """The score, over the samples of all folds, of the weights that the candidate ended with."""
        return self.epochs[-1].validation

    @property
    def path(self) -> tuple["CandidateResult", ...]:
        """The candidates whose blocks make up its network, the first block first."""
        return (*(self.parent.path if self.parent else ()), self)

    def rank(self) -> tuple[object, ...]:
        """Return what sorts candidates, best first.

        Those trained to the end come first, and of these those that did not diverge; then accuracy, the lower loss,
        fewer parameters; what is left only makes the order complete.
        """
        block = self.candidate.block
        least = (self.candidate.trunk, block.k, block.kernel_size, block.kind)
        score = self.score
        return (not self.finished, score.diverged, -score.accuracy, score.loss, self.trainable_params, *least)


@dataclass(frozen=True)
class Step:
    """One growth of the trunk, or the last attempt at one.

    Args:
        number: from 1.
        candidates: all of its candidates.
        kept: those that the next step grows from, the best first; none in the step that ended the search without gain.
        predicted: the accuracy that the strategy expected of each candidate, if it predicts.
    """

    number: int
    candidates: tuple[CandidateResult, ...]
    kept: tuple[CandidateResult, ...]
    predicted: tuple[float | None, ...]

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's correlation of predicted and found accuracy; none without predictions, or where all are equal."""
        pairs = [
            (predicted, result.score.accuracy)
            for predicted, result in zip(self.predicted, self.candidates, strict=True)
            if predicted is not None and result.finished
        ]
        if any(len(set(values)) < 2 for values in zip(*pairs, strict=True)) or len(pairs) < 2:
            return None
        # Imported when needed, as reading params should not wait for it.
        from scipy.stats import spearmanr

        return float(spearmanr(*zip(*pairs, strict=True)).statistic)

    @property
    def best(self) -> CandidateResult:
        """The first of its candidates in rank."""
        return min(self.candidates, key=CandidateResult.rank)


@dataclass(frozen=True)
class History:
    """All steps in order. There is a block in the network for each step that kept one, and for no other."""

    steps: tuple[Step, ...]

    @property
    def blocks(self) -> tuple[CandidateResult, ...]:
        """The candidates whose blocks the network has, from the first block to the last."""
        grown = [step for step in self.steps if step.kept]
        return grown[-1].kept[0].path if grown else ()

    @property
    def stopped(self) -> str:
        """Why the search ended."""
        return "no gain" if self.steps and not self.steps[-1].kept else "max_layers"

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
                    "layer": result.candidate.step,
                    **block_as_json(result.candidate.block),
                    "channels": [result.channels, result.candidate.block.k],
                    "val_accuracy": result.score.accuracy,
                }
                for result in blocks
            ],
            "candidates": [
                {
                    "layer": step.number,
                    "trunk": result.candidate.trunk + 1,
                    **block_as_json(result.candidate.block),
                    "epochs": len(result.epochs),
                    "val_accuracy": result.score.accuracy,
                    "val_loss": finite(result.score.loss),
                    "predicted_val_accuracy": predicted,
                    "trainable_params": result.trainable_params,
                    "chosen": result in blocks,
                }
                for step in self.steps
                for result, predicted in zip(step.candidates, step.predicted, strict=True)
            ],
        }


def block_as_json(block: BlockSpec) -> dict[str, Any]:
    """Return what stands for a block in reports."""
    return {"kind": block.kind, "k": block.k, "kernel_size": block.kernel_size}


def finite(value: float) -> float | None:
    """Return ``value``, or nothing where JSON has no word for it."""
    return value if math.isfinite(value) else None
