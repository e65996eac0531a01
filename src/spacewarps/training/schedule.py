"""The learning rate over a training: one cycle (Smith & Topin 2018, arXiv:1708.07120)."""

import math

# The share of the schedule in which the learning rate rises.
_WARM_UP = 0.25


def one_cycle(step: int, steps: int) -> float:
    """Return the share of the highest learning rate at ``step`` of ``steps``, counted from 0.

    It rises in a line over the first quarter and falls as a half cosine, and is never 0 while there is a step left.
    """
    rising = max(1, round(_WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step + 1 - rising) / (steps + 1 - rising))) / 2
