"""Augmentation on whole batches: every stamp gets its own draw, and no stamp is handled by itself."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from spacewarps.survey.settings import AugmentationSettings


class Augmentation(AugmentationSettings):
    """Random affine transforms, distortions of brightness, contrast and colour, and added noise.

    With all strengths 0 a batch comes back as it went in.
    """

    def __call__(self, stamps: Tensor, generator: torch.Generator | None, *, mask_channel: bool = False) -> Tensor:
        """Return ``stamps`` (float, ``[B, C, H, W]``, any units) augmented; ``generator`` makes all the draws.

        With ``mask_channel`` the last channel is the mask: it moves with the others, is 1 where nothing of the stamp
        comes to lie, and is not distorted.
        """
        moved = self._move(stamps, generator, mask_channel)
        if not mask_channel:
            return self._distort(moved, generator)
        return torch.cat([self._distort(moved[:, :-1], generator), moved[:, -1:]], dim=1)

    def _move(self, stamps: Tensor, generator: torch.Generator | None, mask_channel: bool) -> Tensor:
        if not (self.rotation_degrees or self.shift or self.scale or self.shear_degrees or self.flip):
            return stamps
        matrices = self._affine_matrices(len(stamps), generator)
        # Both axes are measured in sides of their own, which differ where a stamp is not square.
        height, width = stamps.shape[2:]
        matrices[:, 0, 1] *= height / width
        matrices[:, 1, 0] *= width / height
        grid = _grid(matrices.to(stamps.dtype), height, width)
        if not mask_channel:
            return _mirrored(stamps, grid)
        # What is measured is 0 outside, and so the mask 1.
        measured = functional.grid_sample(1 - stamps[:, -1:], grid, padding_mode="zeros", align_corners=False)
        return torch.cat([_mirrored(stamps[:, :-1], grid), (1 - measured).clamp(0, 1)], dim=1)

    def _affine_matrices(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Return ``[count, 2, 3]`` maps from output to input coordinates, where the stamp spans -1 to 1."""

        def symmetric(strength: float) -> Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1) * strength

        angle = symmetric(math.radians(self.rotation_degrees))
        shear = torch.tan(symmetric(math.radians(self.shear_degrees)))
        size = 1 + symmetric(self.scale)
        mirror = 1 - 2 * (torch.rand(2, count, generator=generator) < self.flip).float()
        shift = torch.stack([symmetric(2 * self.shift), symmetric(2 * self.shift)], dim=-1)
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        rows = [
            torch.stack([cos * mirror[0], (cos * shear - sin) * mirror[1]], dim=-1),
            torch.stack([sin * mirror[0], (sin * shear + cos) * mirror[1]], dim=-1),
        ]
        return torch.cat([torch.stack(rows, dim=-2), shift[:, :, None]], dim=-1)

    def _distort(self, stamps: Tensor, generator: torch.Generator | None) -> Tensor:
        count, channels = stamps.shape[:2]

        def symmetric(*shape: int) -> Tensor:
            return torch.rand(*shape, 1, 1, generator=generator) * 2 - 1

        colour = self.colour if channels > 1 else 0.0
        if not (self.brightness or self.contrast or colour or self.noise):
            return stamps
        centre = stamps.mean(dim=(2, 3), keepdim=True)
        centred = stamps - centre
        # As torch.std, which takes as long as all the rest of this.
        pixels = stamps.shape[2] * stamps.shape[3]
        spread = torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True) / math.sqrt(max(1, pixels - 1))
        gain = (1 + self.contrast * symmetric(count, 1)) * (1 + colour * symmetric(count, channels))
        offset = self.brightness * symmetric(count, 1) * spread
        stamps = torch.addcmul(centre + offset, centred, gain)
        if self.noise:
            sigma = self.noise * torch.rand(count, 1, 1, 1, generator=generator) * spread
            stamps = torch.addcmul(stamps, sigma, torch.randn(stamps.shape, generator=generator))
        return stamps


def _mirrored(stamps: Tensor, grid: Tensor) -> Tensor:
    # Mirrored sky at the edges has the noise of the sky; a constant fill would show the network the angle.
    return functional.grid_sample(stamps, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _grid(matrices: Tensor, height: int, width: int) -> Tensor:
    """Return where each output pixel lies in the input, ``[B, height, width, 2]``, from maps ``[B, 2, 3]``.

    As ``affine_grid``, whose product with a matrix of three columns takes several times as long as these sums.
    """
    x, y = ((2 * torch.arange(size, dtype=matrices.dtype) + 1) / size - 1 for size in (width, height))
    across = matrices[:, :, 0, None] * x
    down = matrices[:, :, 1, None] * y + matrices[:, :, 2, None]
    grid = matrices.new_empty(len(matrices), height, width, 2)
    for axis in (0, 1):
        torch.add(down[:, axis, :, None], across[:, axis, None], out=grid[..., axis])
    return grid
