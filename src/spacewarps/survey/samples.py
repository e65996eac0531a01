"""What a network sees of samples, whether anybody knows their classes or not."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacewarps.errors import SurveyError
from spacewarps.survey.prepared import load_stamps


class Seen(NamedTuple):
    """Stamps and features side by side: ``images`` float32 ``[B, C, H, W]``, ``features`` ``[B, F]``."""

    images: Tensor
    features: Tensor


def as_seen(features: pd.DataFrame) -> NDArray[np.float32]:
    """Return features as a network sees them, ``[N, F]``: one too large for float32 is infinite, which is missing."""
    with np.errstate(over="ignore"):
        return features.to_numpy(dtype=np.float64).astype(np.float32)


class Samples:
    """Stamps with their features; labels are not needed.

    >>> samples = Samples(np.zeros((2, 1, 16, 16), "uint8"), pd.DataFrame({"z": [0.1, None]}))
    >>> len(samples), samples.stamp_shape, samples.feature_names
    (2, (1, 16, 16), ['z'])

    Args:
        packed: stamps ``[M, C, H, W]``, which may be mapped from disk; they are never copied whole.
        features: a column of numbers for each feature, ``N`` rows; NaN where there is none.
        rows: which ``N`` of the stamps these are, in order; all of them without it.
        mask_channel: whether the last channel of a stamp is its mask.

    Raises:
        SurveyError: there are not as many rows of features as stamps.
    """

    def __init__(
        self,
        packed: NDArray[Any],
        features: pd.DataFrame,
        rows: NDArray[np.int64] | None = None,
        *,
        mask_channel: bool = False,
    ) -> None:
        self.packed = packed
        self.mask_channel = mask_channel
        self.rows = np.arange(len(packed)) if rows is None else rows
        if len(features) != len(self.rows):
            raise SurveyError(f"features must have a row for each of {len(self.rows)} stamps, but have {len(features)}")
        self.feature_names = [str(name) for name in features.columns]
        self.features = torch.from_numpy(as_seen(features))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def stamps(self) -> NDArray[Any]:
        """All stamps of these samples, ``[N, C, H, W]``, copied into memory."""
        stamps: NDArray[Any] = self.packed[self.rows]
        return stamps

    @property
    def stamp_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of every stamp."""
        channels, height, width = self.packed.shape[1:]
        return int(channels), int(height), int(width)

    @property
    def image_channels(self) -> int:
        """How many channels a stamp has without its mask; they come first."""
        return self.stamp_shape[0] - self.mask_channel

    def seen(self, indices: Sequence[int]) -> Seen:
        """Return what a network sees of the samples at ``indices``, as they are."""
        images = torch.from_numpy(self.packed[self.rows[indices]]).float()
        return Seen(images, self.features[torch.as_tensor(indices)])

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the same file; NumPy by itself would send it a copy of every stamp.
        name = self.packed.filename if isinstance(self.packed, np.memmap) else None
        return self.__dict__ | ({"packed": Path(name)} if name else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state["packed"]
        self.__dict__ |= state | ({"packed": load_stamps(packed)} if isinstance(packed, Path) else {})

    def with_packed(self, packed: NDArray[Any]) -> Self:
        """Return the same samples of ``packed``, the same stamps in another place."""
        moved = copy.copy(self)
        moved.packed = packed
        return moved
