"""Successive halving: the worse half of a step's candidates stops early (Li et al. 2018, arXiv:1603.06560)."""

from collections.abc import Sequence

MOST_HALVINGS = 16


def rungs_of(epochs: int, halvings: int) -> list[int]:
    """Return the epochs after which the worse half stops, and the last, which is ``epochs``.

    >>> rungs_of(8, 2)
    [2, 4, 8]
    """
    return sorted({-(-epochs // 2**times) for times in range(halvings + 1)})


def better_half(count: int) -> int:
    """Return how many of ``count`` candidates go on after a rung: half of them, rounded up."""
    return -(-count // 2)


def epochs_of_step(rungs: Sequence[int], candidates: int) -> int:
    """Return how many epochs all candidates of a step train together.

    >>> epochs_of_step([2, 4, 8], 4)  # four train for two epochs, two for two more, one for four more
    16
    """
    total = begun = 0
    for rung in rungs:
        total += candidates * (rung - begun)
        candidates, begun = better_half(candidates), rung
    return total
