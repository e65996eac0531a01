"""Changes of a network's weights that are not learning: what a warm start does to them."""

import copy
from typing import cast

import torch
from torch import nn

from spacewarps.errors import ModelError
from spacewarps.model.blocks import Block
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.widening import Repeats


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


def widen_block(model: ProgressiveModel, position: int, k: int, generator: torch.Generator) -> ProgressiveModel:
    """Return a network that computes what ``model`` does, with ``k`` channels in the block at ``position``.

    Net2WiderNet (Chen, Goodfellow & Shlens 2016, ICLR, arXiv:1511.05641): the new channels repeat old ones, drawn at
    random, and what takes them in (the next block, or the head) shares each weight out among the copies.

    In eval mode the logits are the same but for rounding. In training they are not: dropout draws for every copy on its
    own, and with what it drops, the batch statistics of the blocks above differ. That sets copies apart as they learn;
    without dropout they would learn the same until they are jittered.

    Args:
        model: stays as it is.
        position: the block's place in the trunk, from 0.
        k: not below that of the block; the same ``k`` gives the same network to the bit.
        generator: draws the channels, on the CPU.

    Raises:
        ModelError: there is no such block, or it has more channels than ``k``.
    """
    if not 0 <= position < len(model.trunk):
        raise ModelError(
            f"the network has {len(model.trunk)} blocks, but the block at position {position} was asked for"
        )
    blocks = [cast(Block, block) for block in model.trunk]
    block = blocks[position]
    if k < block.spec.k:
        raise ModelError(f"the block at position {position} has k={block.spec.k}, and cannot be widened to k={k}")
    repeats = block.draw_widening(k, generator)
    wider = copy.deepcopy(model)
    wider.trunk[position] = block.widened(Repeats.none(block.channels), repeats)
    if position + 1 < len(blocks):
        consumer = blocks[position + 1]
        wider.trunk[position + 1] = consumer.widened(repeats, Repeats.none(consumer.spec.k))
    else:
        wider.head.widen(repeats)
    return wider
