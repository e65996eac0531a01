"""Numbers of any type as pixels, uint8 or float32, and what becomes of those that nobody measured.

A pixel that is masked or not finite is NaN until all of a stamp is read. Then it takes the median of the others in its
channel, which is the sky of its own stamp: after a network's normalisation that lies near zero.
"""

import numpy as np
from numpy.typing import NDArray

from spacewarps.survey.images import TOO_MANY_CHANNELS, StampError, StampShape, check_integers, check_range
from spacewarps.survey.settings import MAX_CHANNELS, MAX_SIDE

# With more pixels masked, the median of the others is as likely the source as the sky.
MAX_MASKED = 0.5


def shape_of_axes(axes: tuple[int, ...], dtype: str) -> StampShape:
    """Return the shape of a stamp whose axes are ``[height, width]`` or ``[channels, height, width]``.

    Raises:
        StampError: there are others, or more than a stamp has.
    """
    if len(axes) not in (2, 3):
        raise StampError(f"array of {len(axes)} axes, where a stamp has two, or three with channels first")
    channels, height, width = (1, *axes)[-3:]
    if channels > MAX_CHANNELS:
        raise StampError(TOO_MANY_CHANNELS)
    if not 1 <= min(channels, height, width) <= max(height, width) <= MAX_SIDE:
        raise StampError("stamp of absurd size")
    return StampShape(channels, height, width, dtype)


def as_pixels(numbers: NDArray[np.generic], shape: StampShape) -> NDArray[np.generic]:
    """Return ``numbers`` as a stamp of ``shape``.

    Raises:
        StampError: float32 cannot hold one of them.
    """
    if numbers.dtype.kind in "iu":
        check_integers(numbers)
    elif numbers.dtype.itemsize > 4:
        # Before they become infinite, which would count as masked.
        check_range(np.where(np.isfinite(numbers), numbers, 0))
    pixels = np.ascontiguousarray(numbers, dtype=np.dtype(shape.dtype))
    return pixels.reshape(shape.channels, shape.height, shape.width)


def fill_masked(stamp: NDArray[np.generic]) -> tuple[NDArray[np.generic], int]:
    """Return ``stamp``, ``[channels, height, width]``, with the sky in the place of masked pixels, and their number.

    Raises:
        StampError: so much of a channel is masked that it has no sky.
    """
    if stamp.dtype.kind != "f":
        return stamp, 0
    masked = ~np.isfinite(stamp)
    count = int(masked.sum())
    if not count:
        return stamp, 0
    filled = stamp.copy()
    for channel, hidden in zip(filled, masked, strict=True):
        if hidden.mean() > MAX_MASKED:
            raise StampError(f"stamp of which more than {MAX_MASKED:.0%} is masked")
        channel[hidden] = np.median(channel[~hidden])
    return filled, count


def crop(
    stamp: NDArray[np.generic], height: int, width: int, centre: tuple[int, int] | None = None
) -> NDArray[np.generic]:
    """Return at most ``height`` rows and ``width`` columns of ``stamp``, ``[channels, h, w]``, around its centre.

    The pixel at ``centre``, which is ``(h // 2, w // 2)`` without it, comes to ``(height // 2, width // 2)``, here and
    in :func:`pad`.
    """
    for axis, (size, middle) in enumerate(_around(stamp, height, width, centre), 1):
        first = max(0, middle - size // 2)
        last = min(stamp.shape[axis], middle - size // 2 + size)
        if last - first < stamp.shape[axis]:
            stamp = stamp.take(range(first, last), axis)
    return stamp


def pad(
    stamp: NDArray[np.generic],
    height: int,
    width: int,
    left_out: tuple[int, int] | None = None,
    *,
    around: float | None = None,
) -> NDArray[np.generic]:
    """Return ``stamp``, ``[channels, h, w]``, with each channel's median around it, ``[channels, height, width]``.

    Args:
        stamp: is padded.
        height: of the result.
        width: of the result.
        left_out: how many rows are missing above, and columns to the left; without it, as many as put it in the middle.
        around: what is around it in place of the median.
    """
    old = stamp.shape[1:]
    if old == (height, width):
        return stamp
    padded = np.empty((len(stamp), height, width), stamp.dtype)
    padded[:] = np.median(stamp.astype(np.float64), axis=(1, 2))[:, None, None] if around is None else around
    top, left = left_out or (height // 2 - old[0] // 2, width // 2 - old[1] // 2)
    padded[:, top : top + old[0], left : left + old[1]] = stamp
    return padded


def missing_before(height: int, width: int, centre: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows and columns lie before the first ones, where ``centre`` comes to the middle."""
    return max(0, height // 2 - centre[0]), max(0, width // 2 - centre[1])


def _around(
    stamp: NDArray[np.generic], height: int, width: int, centre: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    row, column = centre or (stamp.shape[1] // 2, stamp.shape[2] // 2)
    return (height, row), (width, column)
