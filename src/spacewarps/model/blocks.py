"""What the trunk grows by: four kinds of block, all of which halve the map."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from spacewarps.model.kernels import convolve, evaluate_block, evaluates, first_block, sees_data
from spacewarps.model.settings import BLOCK_KINDS, BlockSpec
from spacewarps.model.widening import Repeats


class Block(nn.Module, ABC):
    """A body, then ReLU, Dropout2d, MaxPool2d: half the size, ``k`` channels.

    A kind is a subclass with a name, a body, and what of the body a widening repeats.

    Args:
        channels: the channels that come in.
        k: the channels that go out.
        dropout: the share of the channels that is dropped in training.
        kernel_size: the side of the filters in pixels.

    Raises:
        ModelError: the kind cannot have this ``k`` or this kernel.
    """

    kind: ClassVar[str]

    def __init__(self, channels: int, k: int, dropout: float, kernel_size: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.spec = BlockSpec(k, self.kind, kernel_size)
        self._build_body()
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout2d(dropout)
        self.pool = nn.MaxPool2d(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``[B, k, H // 2, W // 2]`` for ``[B, channels, H, W]``."""
        # A maximum commutes with ReLU and with the positive factor that dropout gives a whole channel. So pooling comes
        # first, to the same bits, and what follows has a quarter of the pixels to go through. So are the gradients, but
        # where that factor would round two pixels of a window to the same number, as happens in bf16: here the larger
        # one gets the gradient, not the first.
        pooled = self.pool(self._body(maps))
        result: Tensor = self.dropout(self.relu(pooled))
        return result

    def draw_widening(self, k: int, generator: torch.Generator) -> Repeats:
        """Return which old channel each of ``k`` output channels repeats; ``k`` is not below that of this block."""
        return Repeats.drawn(self.spec.k, k, generator)

    @torch.no_grad()
    def widened(self, inputs: Repeats, outputs: Repeats) -> Self:
        """Return a block of the same function, for maps whose channels repeat those of before.

        Args:
            inputs: what the channels that come in repeat.
            outputs: what the channels that go out shall repeat, as :meth:`draw_widening` gives it.
        """
        # Its weights are all replaced: none are drawn, and so nothing is taken from torch's own generator.
        with torch.device("meta"):
            block = type(self)(len(inputs), len(outputs), self.dropout.p, self.spec.kernel_size)
        weights = {}
        for layer, (gives, takes) in self._layer_repeats(inputs, outputs).items():
            for name, tensor in self.get_submodule(layer).state_dict().items():
                wider = gives.copied(tensor, dim=0) if tensor.dim() else tensor.clone()
                weights[f"{layer}.{name}"] = wider if takes is None else takes.shared(wider, dim=1)
        block.load_state_dict(weights, assign=True)
        return block.train(self.training)

    @abstractmethod
    def _build_body(self) -> None:
        """Make the layers that :meth:`_body` uses, for ``self.channels`` and ``self.spec``."""

    @abstractmethod
    def _body(self, maps: Tensor) -> Tensor:
        """Return ``[B, k, H, W]`` for ``[B, channels, H, W]``."""

    @abstractmethod
    def _layer_repeats(self, inputs: Repeats, outputs: Repeats) -> dict[str, tuple[Repeats, Repeats | None]]:
        """Return, for each layer with weights, what it gives in a wider block, and what it takes.

        A layer that does not sum over channels takes none.
        """


class ConvBlock(Block):
    """Conv2d, BatchNorm2d, ReLU, Dropout2d, MaxPool2d."""

    kind = "conv"

    def _build_body(self) -> None:
        self.conv = _convolution(self.channels, self.spec.k, self.spec.kernel_size)
        self.norm = nn.BatchNorm2d(self.spec.k)

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``[B, k, H // 2, W // 2]`` for ``[B, channels, H, W]``."""
        # The rounding differs from that of the layers below, and the maps in between are never made.
        if evaluates(maps, self.norm):
            return evaluate_block(maps, self.conv, self.norm)
        if sees_data(maps, self.conv):
            return first_block(maps, self.conv, self.norm, self.dropout)
        return super().forward(maps)

    def _body(self, maps: Tensor) -> Tensor:
        result: Tensor = self.norm(convolve(maps, self.conv))
        return result

    def _layer_repeats(self, inputs: Repeats, outputs: Repeats) -> dict[str, tuple[Repeats, Repeats | None]]:
        return {"conv": (outputs, inputs), "norm": (outputs, None)}


class ResidualBlock(Block):
    """Two convolutions beside a projection of the input, summed.

    The basic block of He et al. 2016 (CVPR, arXiv:1512.03385, fig. 2), with their option C: every shortcut is a 1x1
    convolution. Each of the three convolutions has a BatchNorm2d of its own.
    """

    kind = "residual"

    def _build_body(self) -> None:
        k, kernel_size = self.spec.k, self.spec.kernel_size
        self.conv1 = _convolution(self.channels, k, kernel_size)
        self.norm1 = nn.BatchNorm2d(k)
        self.conv2 = _convolution(k, k, kernel_size)
        self.norm2 = nn.BatchNorm2d(k)
        self.shortcut = _convolution(self.channels, k, 1)
        self.shortcut_norm = nn.BatchNorm2d(k)

    def _body(self, maps: Tensor) -> Tensor:
        inner = self.relu(self.norm1(convolve(maps, self.conv1)))
        result: Tensor = self.norm2(convolve(inner, self.conv2)) + self.shortcut_norm(self.shortcut(maps))
        return result

    def _layer_repeats(self, inputs: Repeats, outputs: Repeats) -> dict[str, tuple[Repeats, Repeats | None]]:
        # The maps between the two convolutions are as wide as the output, and repeat the same channels.
        return {
            "conv1": (outputs, inputs),
            "norm1": (outputs, None),
            "conv2": (outputs, outputs),
            "norm2": (outputs, None),
            "shortcut": (outputs, inputs),
            "shortcut_norm": (outputs, None),
        }


class SeparableBlock(Block):
    """A depthwise separable convolution: one filter for each channel, then a 1x1 convolution across channels.

    As in Xception (Chollet 2017, CVPR, arXiv:1610.02357), with nothing between the two.
    """

    kind = "separable"

    def _build_body(self) -> None:
        self.depthwise = _convolution(self.channels, self.channels, self.spec.kernel_size, groups=self.channels)
        self.pointwise = _convolution(self.channels, self.spec.k, 1)
        self.norm = nn.BatchNorm2d(self.spec.k)

    def _body(self, maps: Tensor) -> Tensor:
        result: Tensor = self.norm(self.pointwise(self.depthwise(maps)))
        return result

    def _layer_repeats(self, inputs: Repeats, outputs: Repeats) -> dict[str, tuple[Repeats, Repeats | None]]:
        return {"depthwise": (inputs, None), "pointwise": (outputs, inputs), "norm": (outputs, None)}


class InceptionBlock(Block):
    """Four branches side by side, which see details of different sizes; each gives its share of the ``k`` channels.

    The naive module of Szegedy et al. 2015 (CVPR, arXiv:1409.4842, fig. 2a): a 1x1 convolution, one of the kernel, one
    of the kernel and two pixels more, and a 3x3 maximum followed by a 1x1 convolution, so that ``k`` is free.
    """

    kind = "inception"
    branch_count: ClassVar[int] = BLOCK_KINDS["inception"]

    @classmethod
    def shares(cls, k: int) -> list[int]:
        """Return the channels of each branch: as even as can be, and never fewer for a larger ``k``."""
        return [(k + cls.branch_count - 1 - branch) // cls.branch_count for branch in range(cls.branch_count)]

    def _build_body(self) -> None:
        kernel_size = self.spec.kernel_size
        self.maximum = nn.MaxPool2d(3, stride=1, padding=1)
        self.branches = nn.ModuleList(
            _convolution(self.channels, share, size)
            for share, size in zip(self.shares(self.spec.k), (1, kernel_size, kernel_size + 2, 1), strict=True)
        )
        self.norm = nn.BatchNorm2d(self.spec.k)

    def _body(self, maps: Tensor) -> Tensor:
        seen = (maps, maps, maps, self.maximum(maps))
        parts = [branch(part) for branch, part in zip(self.branches, seen, strict=True)]
        result: Tensor = self.norm(torch.cat(parts, dim=1))
        return result

    def draw_widening(self, k: int, generator: torch.Generator) -> Repeats:
        """Return which old channel each of ``k`` output channels repeats: one of the same branch."""
        shares = zip(self.shares(self.spec.k), self.shares(k), strict=True)
        return Repeats.side_by_side([Repeats.drawn(old, new, generator) for old, new in shares])

    def _layer_repeats(self, inputs: Repeats, outputs: Repeats) -> dict[str, tuple[Repeats, Repeats | None]]:
        parts = outputs.split(self.shares(len(outputs)))
        branches = {f"branches.{number}": (part, inputs) for number, part in enumerate(parts)}
        return {**branches, "norm": (outputs, None)}


def _convolution(channels: int, k: int, kernel_size: int, groups: int = 1) -> nn.Conv2d:
    # BatchNorm subtracts the mean, and with it any bias.
    return nn.Conv2d(channels, k, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)


BLOCKS: dict[str, type[Block]] = {
    block.kind: block for block in (ConvBlock, ResidualBlock, SeparableBlock, InceptionBlock)
}
