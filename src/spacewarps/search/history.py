"""What the search did: every step, every candidate, the winner."""

import math
from dataclasses import dataclass, field
from typing import Any

from spacewarps.model.settings import BlockSpec, block_label
from spacewarps.search.clustered import Estimate
from spacewarps.search.settings import Measure
from spacewarps.training.score import Epoch, Outcomes, Score, pooled_epochs


@dataclass(frozen=True)
class Candidate:
    """One block on trial at a step: the block, its seed, and the trunk that it stands on.

    Or the control of a step: the last network that joined, which learns on without a new block.

    Args:
        step: the step, from 1.
        block: its kind, its number of output channels ``k``, its kernel size; of a control, those of the last block.
        seed: decides its first weights, its batches and dropout.
        trunk: which of the trunks that grow side by side, from 0.
        control: whether it is the control.
    """

    step: int
    block: BlockSpec
    seed: int
    trunk: int = 0
    control: bool = False

    @property
    def label(self) -> str:
        """What people call it."""
        if self.control:
            return "control"
        label = block_label(self.block.kind, self.block.k, self.block.kernel_size)
        return f"{label} on trunk {self.trunk + 1}" if self.trunk else label


@dataclass(frozen=True)
class FoldResult:
    """How a candidate did in one fold.

    Args:
        epochs: what each epoch came to.
        outcomes: what the last of them came to on each sample that it was scored on.
    """

    epochs: tuple[Epoch, ...]
    outcomes: Outcomes = field(repr=False)


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
        return pooled_epochs([fold.epochs for fold in self.folds], [len(fold.outcomes) for fold in self.folds])

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
class Evidence:
    """What a decision rests on that asks for the noise.

    Args:
        measure: what candidates are compared by.
        gain: how much better the winner is than the last that joined, or than the control where there is one; none at
            the first step.
        values: the measure of each candidate, in the order of the step, with the standard error of that difference; at
            the first step, with its own.
        control: the measure of the control, where there is one.
    """

    measure: Measure
    gain: Estimate | None
    values: tuple[Estimate, ...]
    control: float | None = None


@dataclass(frozen=True)
class Decision:
    """What a step came to, and why.

    Args:
        winner: the best of its candidates, by the rule that decides.
        joins: whether its block joins the network.
        sentence: both in words, with the figures.
        evidence: the figures, where the rule asks for the noise.
    """

    winner: CandidateResult
    joins: bool
    sentence: str
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Step:
    """One growth of the trunk, or an attempt at one.

    Args:
        number: from 1.
        candidates: all of its candidates.
        kept: those that the next step grows from, or would grow from, the winner first; none where growth ended for
            want of gain.
        predicted: the accuracy that the strategy expected of each candidate, if it predicts.
        decision: which of them won, and whether its block joined.
        control: the last network that joined, after as many epochs; where ``control`` asks for it, from step 2 on.
    """

    number: int
    candidates: tuple[CandidateResult, ...]
    kept: tuple[CandidateResult, ...]
    predicted: tuple[float | None, ...]
    decision: Decision
    control: CandidateResult | None = None

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
        """The winner."""
        return self.decision.winner


@dataclass(frozen=True)
class History:
    """All steps in order. The network has a block of each step up to the last that gained, and of no other."""

    steps: tuple[Step, ...]

    @property
    def blocks(self) -> tuple[CandidateResult, ...]:
        """The candidates whose blocks the network has, from the first block to the last."""
        gained = [step for step in self.steps if step.decision.joins]
        return gained[-1].best.path if gained else ()

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
                    **_value_as_json(step, position),
                }
                for step in self.steps
                for position, (result, predicted) in enumerate(zip(step.candidates, step.predicted, strict=True))
            ],
            **self._decisions_as_json(),
        }

    def _decisions_as_json(self) -> dict[str, Any]:
        found = [(step, step.decision, step.decision.evidence) for step in self.steps]
        if any(evidence is None for _, _, evidence in found):
            return {}
        return {
            "decides": next(evidence.measure for _, _, evidence in found if evidence),
            "decisions": [
                {
                    "layer": step.number,
                    "joins": decision.joins,
                    **block_as_json(decision.winner.candidate.block),
                    "gain": None if evidence is None or evidence.gain is None else finite(evidence.gain.mean),
                    "gain_error": None if evidence is None or evidence.gain is None else finite(evidence.gain.error),
                    "sentence": decision.sentence,
                    **_control_as_json(step.control, evidence),
                }
                for step, decision, evidence in found
            ],
        }


def _value_as_json(step: Step, position: int) -> dict[str, Any]:
    """Return what decided, and its error, where the rule asks for the noise."""
    if step.decision.evidence is None:
        return {}
    value = step.decision.evidence.values[position]
    return {"value": finite(value.mean), "error": finite(value.error), "folds": len(step.candidates[position].folds)}


def _control_as_json(control: CandidateResult | None, evidence: Evidence | None) -> dict[str, Any]:
    """Return what the control of a step came to, where there is one."""
    if control is None or evidence is None or evidence.control is None:
        return {}
    told = {
        "epochs": len(control.epochs),
        "val_accuracy": control.score.accuracy,
        "val_loss": finite(control.score.loss),
        "value": finite(evidence.control),
    }
    return {"control": told}


def block_as_json(block: BlockSpec) -> dict[str, Any]:
    """Return what stands for a block in reports."""
    return {"kind": block.kind, "k": block.k, "kernel_size": block.kernel_size}


def finite(value: float) -> float | None:
    """Return ``value``, or nothing where JSON has no word for it."""
    return value if math.isfinite(value) else None
