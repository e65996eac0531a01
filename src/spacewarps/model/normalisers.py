"""From raw stamps and catalogue units to numbers that a network learns from; fitted on the training split only."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# One scale for each order of magnitude that matters: near zero, in the middle, in the tail.
_SCALE_QUANTILES = (0.1, 0.5, 0.9)
# Standardised values stay within this many standard deviations, however wild a catalogue's outliers are.
_MAX_DEVIATION = 10.0
# Enough stamps for quantiles of pixels; more would cost memory and change nothing that is seen.
_STAMPS_TO_FIT = 1024


def stamps_to_fit(count: int) -> range:
    """Return which of ``count`` stamps a :class:`StampNormaliser` looks at; the others need not be loaded for it."""
    return range(0, count, max(1, -(-count // _STAMPS_TO_FIT)))


class StampNormaliser(nn.Module):
    """The inverse hyperbolic sine stretch: ``asinh((pixel - sky) / noise)``, for each channel.

    Linear around the sky, logarithmic in bright cores, so that faint hosts and saturated stars are seen at once
    (Lupton, Gunn & Szalay 1999, AJ 118, 1406). Before ``fit``, sky is 0 and noise 1. A mask stays at these, whatever
    share of the pixels is masked: 0 means 0, and 1 is asinh(1), 0.88.

    Args:
        channels: of a stamp.
        mask_channel: whether the last of them is its mask.
    """

    sky: Tensor
    noise: Tensor

    def __init__(self, channels: int, *, mask_channel: bool = False) -> None:
        super().__init__()
        self._fitted_channels = channels - mask_channel
        self.register_buffer("sky", torch.zeros(channels, 1, 1))
        self.register_buffer("noise", torch.ones(channels, 1, 1))

    def fit(self, stamps: NDArray[np.generic]) -> None:
        """Set sky and noise from the median and the spread of the pixels of ``stamps``, ``[N, C, H, W]``."""
        part = stamps[stamps_to_fit(len(stamps))].astype(np.float32)
        for channel in range(self._fitted_channels):
            low, middle, high = np.quantile(part[:, channel], [0.16, 0.5, 0.84])
            self.sky[channel] = float(middle)
            # In float64, in which the squares of no float32 vanish or overflow.
            self.noise[channel] = float((high - low) / 2) or float(part[:, channel].std(dtype=np.float64)) or 1.0

    def forward(self, stamps: Tensor) -> Tensor:
        """Return the stretched stamps, ``[B, C, H, W]``."""
        pixels = (stamps.float() - self.sky) / self.noise
        if pixels.requires_grad:
            return torch.asinh(pixels)
        # The same to the rounding of float32. `asinh` has no vectorised form, and took a third of the time in which a
        # small network is evaluated; but this would give a pixel at the sky no gradient.
        size = pixels.abs()
        return torch.log(size + torch.hypot(size, torch.ones_like(self.noise))).copysign_(pixels)


class FeatureNormaliser(nn.Module):
    """Catalogue values compressed, standardised, and flagged where there is none.

    Each value ``x`` becomes ``asinh(x / s)`` for several scales ``s``, since a star's redshift and a quasar's are four
    orders of magnitude apart; each is standardised. A value that is missing or not finite, and an error that is not
    positive (a code of the catalogue, not an error), becomes the mean of the training split, and its flag 1.

    Args:
        errors: for each feature, whether it is the error of another one.
    """

    is_error: Tensor
    scales: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, errors: list[bool]) -> None:
        super().__init__()
        size = (len(errors), len(_SCALE_QUANTILES))
        self.register_buffer("is_error", torch.tensor(errors, dtype=torch.bool))
        self.register_buffer("scales", torch.ones(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    @property
    def width(self) -> int:
        """The number of values that each sample becomes."""
        return self.scales.numel() + len(self.scales)

    def fit(self, features: Tensor) -> None:
        """Set scales, means and standard deviations from ``features``, ``[N, F]`` in catalogue units."""
        # In float32, as `forward` sees them: what overflows there has no value.
        features = features.float()
        usable = self._usable(features).numpy()
        values = features.double().numpy()
        for column in range(values.shape[1]):
            known = values[usable[:, column], column]
            sizes = np.abs(known[known != 0])
            if sizes.size:
                self.scales[column] = torch.from_numpy(np.quantile(sizes, _SCALE_QUANTILES))
                compressed = np.arcsinh(known[:, None] / self.scales[column].double().numpy())
                self.mean[column] = torch.from_numpy(compressed.mean(axis=0))
                deviation = compressed.std(axis=0)
                self.deviation[column] = torch.from_numpy(np.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``[B, width]``: the standardised values of every scale, then the flags."""
        features = features.float()
        usable = self._usable(features)
        known = torch.where(usable, features, 0.0)
        values = (torch.asinh(known[:, :, None] / self.scales) - self.mean) / self.deviation
        values = values.clamp(-_MAX_DEVIATION, _MAX_DEVIATION) * usable[:, :, None]
        return torch.cat([values.flatten(1), (~usable).float()], dim=1)

    def _usable(self, features: Tensor) -> Tensor:
        return torch.isfinite(features) & ~(self.is_error & (features <= 0))
