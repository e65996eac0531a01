"""What the networks of one search have in common, and what a block is, apart from any weights."""

from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any

from pydantic import Field

from spacewarps.errors import ModelError
from spacewarps.settings import settings, shown

#: The kinds of block, and the least ``k`` that each can have.
BLOCK_KINDS = {"conv": 1, "residual": 1, "separable": 1, "inception": 4}
LARGEST_KERNEL = 15
#: In how many ways a network can look at a stamp; 8 are all turned and mirrored images that keep its pixels.
ORIENTATIONS = (1, 8)


@settings
class Configuration:
    """What the networks of one search have in common.

    Args:
        embedding: the width of the space that image and features are both projected to.
        head_grid: the head sees the feature map averaged to at most this many cells a side.
        dropout: the share of a block's channels that is dropped in training.

    Raises:
        SettingsError: an argument is out of range.
    """

    embedding: Annotated[int, Field(ge=1, le=65536)] = 64
    head_grid: Annotated[int, Field(ge=1, le=256)] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


def whole_number(what: str, value: Any) -> int:
    """Return a whole number of any type, such as NumPy's, as Python's, which can be written as JSON.

    Raises:
        ModelError: it is none; ``what`` names it.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ModelError(f"{what} must be a whole number, but got {shown(value)}")
    return int(value)


def block_label(kind: str, k: int, kernel_size: int) -> str:
    """Return what people call a block; its kernel only where that is another than usual.

    >>> block_label("conv", 16, 3), block_label("residual", 8, 5)
    ('conv k=16', 'residual 5x5 k=8')
    """
    kernel = "" if kernel_size == BlockSpec.kernel_size else f" {kernel_size}x{kernel_size}"
    return f"{kind}{kernel} k={k}"


@dataclass(frozen=True)
class BlockSpec:
    """What a block is, apart from its weights.

    Args:
        k: the channels that go out.
        kind: one of :data:`BLOCK_KINDS`.
        kernel_size: the side of the block's filters in pixels: odd, so that a map keeps its size.

    Raises:
        ModelError: there is no such kind, or it cannot have this ``k`` or this kernel.
    """

    k: int
    kind: str = "conv"
    kernel_size: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in BLOCK_KINDS:
            raise ModelError(f"a block's kind must be one of {', '.join(BLOCK_KINDS)}, but got kind={shown(self.kind)}")
        for name in ("k", "kernel_size"):
            object.__setattr__(self, name, whole_number(f"a block's {name}", getattr(self, name)))
        least = BLOCK_KINDS[self.kind]
        if self.k < least:
            raise ModelError(f"a block of kind {self.kind} must have a k of at least {least}, but got k={self.k}")
        if self.kernel_size % 2 == 0 or not 1 <= self.kernel_size <= LARGEST_KERNEL:
            raise ModelError(
                f"a block's kernel_size must be odd and from 1 to {LARGEST_KERNEL}, "
                f"but got kernel_size={self.kernel_size}"
            )
