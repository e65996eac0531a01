"""Wider maps of the same content: which channel repeats which, and what that does to weights."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Repeats:
    """Which channel of a map each channel of a wider map repeats.

    Args:
        sources: ``[wider]``, on the CPU; every channel of the narrower map is in it at least once.
    """

    sources: Tensor

    @classmethod
    def none(cls, channels: int) -> Self:
        """Return what leaves a map of ``channels`` as it is."""
        return cls(torch.arange(channels))

    @classmethod
    def drawn(cls, channels: int, wider: int, generator: torch.Generator) -> Self:
        """Return all ``channels`` once, then as many of them, drawn at random, as make ``wider``."""
        drawn = torch.randint(channels, (wider - channels,), generator=generator)
        return cls(torch.cat([torch.arange(channels), drawn]))

    @classmethod
    def side_by_side(cls, parts: list[Self]) -> Self:
        """Return the repeats of the map that the maps of ``parts`` make side by side."""
        offsets = accumulate((part.narrower for part in parts), initial=0)
        return cls(torch.cat([part.sources + offset for part, offset in zip(parts, offsets, strict=False)]))

    def split(self, sizes: list[int]) -> list[Self]:
        """Return the repeats of each of the maps, ``sizes`` wide, that stand side by side in this one."""
        return [type(self)(part - part.min()) for part in torch.split(self.sources, sizes)]

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def narrower(self) -> int:
        """The number of channels of the narrower map."""
        return int(self.sources.max()) + 1

    def copied(self, weights: Tensor, dim: int) -> Tensor:
        """Return ``weights`` of what makes the map: those of each channel along ``dim``, for every copy of it."""
        return weights.index_select(dim, self.sources.to(weights.device))

    def shared(self, weights: Tensor, dim: int) -> Tensor:
        """Return ``weights`` of what sums over the map's channels along ``dim``, shared out among their copies."""
        copies = torch.bincount(self.sources)[self.sources].to(weights.device)
        return self.copied(weights, dim) / copies.reshape(-1, *[1] * (weights.dim() - dim - 1))
