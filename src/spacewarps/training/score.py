"""How well a network does, on a split and on each of its samples, and what one epoch of training came to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A float32 and a byte.
_BYTES_A_SAMPLE = 5


@dataclass(frozen=True)
class Score:
    """How well a network does on a split: the share it gets right, and the mean cross-entropy in nats."""

    accuracy: float
    loss: float

    @property
    def diverged(self) -> bool:
        """Whether the loss is not finite; what such a network gets right, it gets right by chance."""
        return not math.isfinite(self.loss)

    def better_than(self, other: "Score") -> bool:
        """Say whether this score is higher in accuracy, or equal in it and lower in loss; diverged ones are worst."""
        return (not self.diverged, self.accuracy, -self.loss) > (not other.diverged, other.accuracy, -other.loss)


@dataclass(frozen=True)
class Outcomes:
    """What a network came to on each sample of a split; equal ones are equal to the bit.

    Args:
        packed: for ``N`` samples, the cross-entropies in nats (``N`` little-endian float32), then whether each was
            classified right (``N`` bytes, 1 or 0).
    """

    packed: bytes = field(repr=False)

    @classmethod
    def of(cls, losses: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> "Outcomes":
        """Return the outcomes with these losses, ``[N]``, infinite where one is not finite, and these right answers."""
        finite = np.where(np.isfinite(losses), losses, np.inf)
        return cls(finite.astype("<f4").tobytes() + right.astype(np.uint8).tobytes())

    def __len__(self) -> int:
        return len(self.packed) // _BYTES_A_SAMPLE

    @property
    def losses(self) -> NDArray[np.float64]:
        """The cross-entropy of each sample, in nats."""
        return np.frombuffer(self.packed, "<f4", count=len(self)).astype(np.float64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each sample was classified right."""
        return np.frombuffer(self.packed, np.uint8, offset=4 * len(self)).astype(bool)


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training came to."""

    epoch: int
    train_loss: float
    validation: Score


def finite_or_infinite(loss: float) -> float:
    """Return ``loss``, infinite where training diverged, so that it compares and sorts."""
    return loss if math.isfinite(loss) else math.inf


def pooled_epochs(folds: Sequence[Sequence[Epoch]], samples: Sequence[int]) -> tuple[Epoch, ...]:
    """Return what the epochs came to over the samples of all folds.

    Args:
        folds: the epochs of each fold, equally many.
        samples: how many samples each fold was scored on, which its part in the mean follows.
    """
    if len(folds) == 1:
        return tuple(folds[0])
    total = sum(samples)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(value * count for value, count in zip(values, samples, strict=True)) / total

    return tuple(
        Epoch(
            epochs[0].epoch,
            mean([epoch.train_loss for epoch in epochs]),
            Score(
                mean([epoch.validation.accuracy for epoch in epochs]), mean([epoch.validation.loss for epoch in epochs])
            ),
        )
        for epochs in zip(*folds, strict=True)
    )
