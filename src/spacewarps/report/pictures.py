"""Stamps and maps as PNG within a page, small and the same every time."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The longest side of a picture, in pixels; larger stamps are averaged down.
_LONGEST = 96
# The darkest and the brightest share of the pixels, which may be faults, are as dark and as bright as the next.
_ENDS = (1.0, 99.5)
# From the faint, as of a host, to the bright core: the stretch is linear up to a tenth of the range.
_SOFTENING = 10.0
# Levels of a map of saliency. More would not be seen, and hold the last bits of gradients.
_LEVELS = 16


def bands_shown(channels: int) -> tuple[int, ...]:
    """Return which channels are shown, from 0: one as grey; three as red, green and blue, in their order.

    Of any other number the last is red, the middle one green and the first blue, as bands are mostly in the order of
    their wavelength.
    """
    if channels == 1:
        return (0,)
    if channels == 3:
        return (0, 1, 2)
    return (channels - 1, channels // 2, 0)


def bands_in_words(channels: int) -> str:
    """Return what :func:`bands_shown` comes to, in words."""
    shown = [band + 1 for band in bands_shown(channels)]
    return "in grey" if channels == 1 else f"with channels {shown[0]}, {shown[1]} and {shown[2]} as red, green and blue"


def picture_of_stamp(stamp: NDArray[Any]) -> str:
    """Return a stamp ``[C, H, W]`` as a PNG in an address, each channel stretched by itself."""
    shown = _averaged(stamp[list(bands_shown(len(stamp)))].astype(np.float64))
    stretched = np.stack([_stretched(channel) for channel in shown], axis=-1)
    return _as_address(_bytes(stretched[:, :, 0] if len(shown) == 1 else stretched))


def pictures_of_saliency(maps: NDArray[np.float32]) -> Sequence[str]:
    """Return maps ``[N, H, W]``, each as a PNG in an address: black where nothing changes, white where most does."""
    found = []
    for one in maps.astype(np.float64):
        [shown] = _averaged(one[None])
        highest = float(np.percentile(shown, _ENDS[1])) if np.isfinite(shown).all() else 0.0
        shares = (shown / highest).clip(0, 1) if highest > 0 else np.zeros_like(shown)
        found.append(_as_address(_bytes(np.rint((_LEVELS - 1) * shares) / (_LEVELS - 1))))
    return found


def _bytes(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(255 * shares).astype(np.uint8)


def _averaged(channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``[C, H, W]`` with as many pixels averaged to one as keep both sides short."""
    _, height, width = channels.shape
    step = -(-max(height, width) // _LONGEST)
    if step == 1:
        return channels
    # What is left over at the rim is repeated, so that the last pixel is an average as well.
    wide = np.pad(channels, ((0, 0), (0, -height % step), (0, -width % step)), mode="edge")
    rows, columns = wide.shape[1] // step, wide.shape[2] // step
    found: NDArray[np.float64] = wide.reshape(len(wide), rows, step, columns, step).mean(axis=(2, 4))
    return found


def _stretched(channel: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.percentile(channel, _ENDS)
    if high <= low:
        return np.zeros_like(channel)
    shares = ((channel - low) / (high - low)).clip(0, 1)
    found: NDArray[np.float64] = np.arcsinh(_SOFTENING * shares) / np.arcsinh(_SOFTENING)
    return found


def _as_address(pixels: NDArray[np.uint8]) -> str:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"
