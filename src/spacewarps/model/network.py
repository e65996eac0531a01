"""The network that grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spacewarps.errors import ModelError
from spacewarps.features import are_errors
from spacewarps.model.arrays import AskedWithArrays
from spacewarps.model.blocks import BLOCKS, Block
from spacewarps.model.normalisers import FeatureNormaliser, StampNormaliser
from spacewarps.model.settings import BlockSpec, Configuration, whole_number
from spacewarps.model.widening import Repeats


@dataclass(frozen=True)
class Inputs:
    """What a network sees and tells apart; with ``mask_channel``, the last channel of a stamp is its mask."""

    stamp_shape: tuple[int, int, int]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    mask_channel: bool = False

    @property
    def image_channels(self) -> int:
        """How many channels a stamp has without its mask; they come first."""
        return self.stamp_shape[0] - self.mask_channel


class Head(nn.Module):
    """The classifier: the feature map is averaged to a grid and projected, joined by the features, and classified.

    Args:
        map_shape: ``(C, H, W)`` of the feature map.
        joined: the width of what the projector adds; 0 without features.
        classes: the number of classes.
        configuration: embedding and grid.
    """

    def __init__(
        self, map_shape: tuple[int, int, int], joined: int, classes: int, configuration: Configuration
    ) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.window = (-(-height // configuration.head_grid), -(-width // configuration.head_grid))
        cells = -(-height // self.window[0]) * -(-width // self.window[1])
        self.project = nn.Linear(channels * cells, configuration.embedding)
        self.classify = nn.Linear(configuration.embedding + joined, classes)

    def forward(self, maps: Tensor, joined: Tensor | None) -> Tensor:
        """Return logits ``[B, classes]`` for maps ``[B, C, H, W]`` and projected features ``[B, joined]``."""
        batch, channels, height, width = maps.shape
        rows, columns = _averages(height, self.window[0], maps), _averages(width, self.window[1], maps)
        # Two products with small matrices, in the layout that the trunk leaves. The gradient of adaptive pooling is not
        # deterministic on CUDA, and that of plain pooling takes a tenth of a training step on the CPU.
        strips = rows @ maps.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
        cells = columns @ strips.reshape(batch * len(rows), width, channels)
        image = functional.relu(self.project(cells.reshape(batch, -1)))
        logits: Tensor = self.classify(image if joined is None else torch.cat([image, joined], dim=1))
        return logits

    @torch.no_grad()
    def widen(self, repeats: Repeats) -> None:
        """Fit this head, in place, to maps whose channels are ``repeats`` of those of before; the logits stay."""
        weights = self.project.weight.reshape(self.project.out_features, -1, repeats.narrower)
        self.project.weight = nn.Parameter(repeats.shared(weights, dim=2).flatten(1))
        self.project.in_features = self.project.weight.shape[1]


def _averages(size: int, window: int, like: Tensor) -> Tensor:
    """Return ``[cells, size]``: each row averages one window of an axis; the last window may be shorter."""
    cell = torch.arange(size, device=like.device) // window
    member = (cell == torch.arange(-(-size // window), device=like.device)[:, None]).to(like.dtype)
    return member / member.sum(dim=1, keepdim=True)


class ProgressiveModel(AskedWithArrays, nn.Module):
    """A convolutional network that starts without blocks and grows one at a time.

    It takes stamps and features as they come, in their own units: the normalisers are part of it. The features pass
    through a projector of their own and join the image before the classifier.

    >>> model = ProgressiveModel((1, 75, 75), features=("z", "z_err"), classes=("GALAXY", "QSO", "STAR"))
    >>> model.add_block(k=16)
    >>> model(torch.zeros(2, 1, 75, 75), torch.zeros(2, 2)).shape
    torch.Size([2, 3])

    Args:
        stamp_shape: ``(C, H, W)`` of a stamp.
        features: the names of the feature columns; there may be none. ``z_err`` is taken as the error of ``z``.
        classes: the names of the classes, at least two.
        configuration: what does not grow.
        mask_channel: whether the last channel of a stamp says which pixels nobody measured.

    Raises:
        ModelError: a size is no positive whole number, there are fewer than two classes, or a mask without a stamp.
    """

    def __init__(
        self,
        stamp_shape: tuple[int, int, int],
        features: Sequence[str],
        classes: Sequence[str],
        configuration: Configuration | None = None,
        *,
        mask_channel: bool = False,
    ) -> None:
        super().__init__()
        sizes = [whole_number("a size in stamp_shape", size) for size in stamp_shape]
        if len(sizes) != 3 or min(sizes) < 1:
            raise ModelError(f"stamp_shape must be three positive sizes (C, H, W), but got {stamp_shape}")
        if len(classes) < 2:
            raise ModelError(f"a classifier needs at least two classes, but got classes={list(classes)}")
        self.inputs = Inputs((sizes[0], sizes[1], sizes[2]), tuple(features), tuple(classes), mask_channel)
        if self.inputs.image_channels < 1:
            raise ModelError(f"with a mask a stamp has two channels or more, but stamp_shape is {tuple(stamp_shape)}")
        self.configuration = configuration or Configuration()
        self.stamp_normaliser = StampNormaliser(sizes[0], mask_channel=mask_channel)
        self.trunk = nn.ModuleList()
        if features:
            self.feature_normaliser = FeatureNormaliser(are_errors(features))
            embedding = self.configuration.embedding
            self.projector = nn.Sequential(
                nn.Linear(self.feature_normaliser.width, embedding),
                nn.ReLU(),
                nn.Linear(embedding, embedding),
                nn.ReLU(),
            )
        self.head = self._new_head()

    @property
    def specs(self) -> list[BlockSpec]:
        """What each block is."""
        return [cast(Block, block).spec for block in self.trunk]

    @property
    def ks(self) -> list[int]:
        """The number of output channels of each block."""
        return [spec.k for spec in self.specs]

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the feature map that the head sees."""
        channels, height, width = self.inputs.stamp_shape
        halvings = len(self.trunk)
        return (self.ks[-1] if self.ks else channels, height >> halvings, width >> halvings)

    @property
    def trainable_params(self) -> int:
        """The number of weights that training changes."""
        return sum(weights.numel() for weights in self.parameters() if weights.requires_grad)

    def add_block(self, k: int, kind: str = "conv", kernel_size: int = 3) -> None:
        """Add a block of ``k`` output channels to the trunk, and rebuild the head to fit the new feature map.

        The classifier's own weights stay: their shape does not depend on the map.

        Raises:
            ModelError: there is no such block (see :class:`~spacewarps.model.settings.BlockSpec`), or the feature map
                is too small to be halved again.
        """
        spec = BlockSpec(k, kind, kernel_size)
        check_depth(self.inputs.stamp_shape, len(self.trunk) + 1)
        block = BLOCKS[spec.kind](self.map_shape[0], spec.k, self.configuration.dropout, spec.kernel_size)
        self.trunk.append(block.to(self.head.classify.weight.device))
        classify = self.head.classify
        self.head = self._new_head().to(classify.weight.device)
        self.head.classify = classify
        self.train(self.training)

    def fit_normalisers(self, stamps: NDArray[np.generic], features: Tensor) -> None:
        """Fit the normalisers to the training split.

        Args:
            stamps: ``[N, C, H, W]``, in the survey's units.
            features: ``[N, F]`` in catalogue units.
        """
        self.stamp_normaliser.fit(stamps)
        if self.inputs.features:
            self.feature_normaliser.fit(features)

    def with_new_weights(self) -> "ProgressiveModel":
        """Return a network of the same architecture with the same normalisers, and every weight drawn anew."""
        model = build_network(self.inputs, self.specs, self.configuration)
        model.stamp_normaliser.load_state_dict(self.stamp_normaliser.state_dict())
        if self.inputs.features:
            model.feature_normaliser.load_state_dict(self.feature_normaliser.state_dict())
        return model.to(self.head.classify.weight.device)

    def forward(self, stamps: Tensor, features: Tensor | None = None) -> Tensor:
        """Return logits ``[B, classes]``.

        Args:
            stamps: ``[B, C, H, W]``, uint8 or float, in the survey's units.
            features: ``[B, F]`` in catalogue units, NaN where there is no value; not needed if the network has none.

        Raises:
            ModelError: the stamps or the features are not of the shape that the network was made for.
        """
        if stamps.shape[1:] != self.inputs.stamp_shape:
            raise ModelError(
                f"the network takes stamps [B, {', '.join(map(str, self.inputs.stamp_shape))}], "
                f"but got {list(stamps.shape)}"
            )
        wanted, given = (len(stamps), len(self.inputs.features)), None if features is None else tuple(features.shape)
        if self.inputs.features and given != wanted:
            raise ModelError(
                f"the network takes {wanted[1]} features ({', '.join(self.inputs.features)}) for each of {wanted[0]} "
                f"stamps, but got {'none' if given is None else list(given)}"
            )
        return self.finish(self.maps(stamps, len(self.trunk)), features, len(self.trunk))

    def maps(self, stamps: Tensor, depth: int) -> Tensor:
        """Return what the first ``depth`` blocks make of ``stamps``."""
        maps: Tensor = self.stamp_normaliser(stamps).contiguous(memory_format=torch.channels_last)
        for block in self.trunk[:depth]:
            maps = block(maps)
        return maps

    def finish(self, maps: Tensor, features: Tensor | None, depth: int) -> Tensor:
        """Return logits ``[B, classes]`` from the maps of the first ``depth`` blocks."""
        for block in self.trunk[depth:]:
            maps = block(maps)
        joined = self.projector(self.feature_normaliser(features)) if self.inputs.features else None
        logits: Tensor = self.head(maps, joined)
        return logits

    def _new_head(self) -> Head:
        joined = self.configuration.embedding if self.inputs.features else 0
        return Head(self.map_shape, joined, len(self.inputs.classes), self.configuration)


def build_network(
    inputs: Inputs, blocks: Sequence[BlockSpec], configuration: Configuration | None = None
) -> ProgressiveModel:
    """Return a network of ``blocks`` with new weights; its normalisers are not fitted yet.

    Raises:
        ModelError: there can be no such network.
    """
    model = ProgressiveModel(
        inputs.stamp_shape, inputs.features, inputs.classes, configuration, mask_channel=inputs.mask_channel
    )
    for block in blocks:
        model.add_block(block.k, block.kind, block.kernel_size)
    return model


def check_depth(stamp_shape: tuple[int, int, int], blocks: int) -> None:
    """Check that a stamp of ``stamp_shape`` can be halved ``blocks`` times.

    Raises:
        ModelError: it cannot.
    """
    _, height, width = stamp_shape
    halvings = min(height, width).bit_length() - 1
    if blocks > halvings:
        raise ModelError(
            f"a stamp of {height} x {width} pixels can be halved {halvings} times at most, "
            f"but {blocks} blocks were asked for; ask for fewer (`max_layers`)"
        )
