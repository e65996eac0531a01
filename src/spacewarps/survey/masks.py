"""The channel that says which pixels nobody measured: where it is asked for, the last one of a stamp."""

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.images import StampShape
from spacewarps.survey.pixels import pad
from spacewarps.survey.settings import StampSettings

#: Of a pixel that was measured in no channel, and of one beyond the edge.
MASKED = 1


def packed_shape(shape: StampShape, how: StampSettings) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` of what becomes of stamps that were delivered in ``shape``."""
    return shape.channels + how.mask_channel, shape.height, shape.width


def mask_of(stamp: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the share of the channels in which each pixel is not finite, ``[1, height, width]`` of the stamp's type.

    In uint8 it is 0 everywhere: an integer is a number that somebody measured.

    >>> mask_of(np.array([[[1, np.nan, np.nan]], [[1, np.inf, 1]]], "float32"))
    array([[[0. , 1. , 0.5]]], dtype=float32)

    Args:
        stamp: as it was delivered, ``[channels, height, width]``.
    """
    hidden = (~np.isfinite(stamp)).sum(axis=0, keepdims=True)
    share: NDArray[np.generic] = (hidden / len(stamp)).astype(stamp.dtype)
    return share


def with_mask(
    stamp: NDArray[np.generic], mask: NDArray[np.generic], left_out: tuple[int, int] | None = None
) -> NDArray[np.generic]:
    """Return ``stamp``, ``[channels, height, width]``, with ``mask`` as its last channel.

    Args:
        stamp: of its final size.
        mask: that of what was delivered of it.
        left_out: where the two differ in size, as in :func:`~spacewarps.survey.pixels.pad`.
    """
    return np.concatenate([stamp, pad(mask, stamp.shape[1], stamp.shape[2], left_out, around=MASKED)])
