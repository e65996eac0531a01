"""Changes of a network's weights that are not learning: what a warm start does to them."""

import torch
from torch import nn


@torch.no_grad()
def scale_and_jitter(module: nn.Module, scale: float, jitter: float, generator: torch.Generator) -> None:
    """Multiply every weight by ``scale`` and add Gaussian noise, in place.

    Args:
        module: its parameters change, its buffers (BatchNorm's statistics) do not.
        scale: 1 leaves the weights as they are.
        jitter: the standard deviation of the noise, in standard deviations of each tensor's own weights; 0 adds none.
        generator: draws the noise, on the CPU.
    """
    for weights in module.parameters():
        # Of a contiguous copy, since the order of a sum, and so its last bit, depends on the layout in memory.
        deviation = weights.contiguous().std(correction=0)
        weights.mul_(scale)
        if jitter:
            noise = torch.randn(weights.shape, generator=generator).to(weights.device)
            weights.add_(noise * deviation, alpha=jitter)
