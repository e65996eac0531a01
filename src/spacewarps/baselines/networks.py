"""Networks that nobody searched for."""

from collections.abc import Sequence

from spacewarps.model.network import Inputs, ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import named_random_state

#: Channels of the blocks of a network like VGG (Simonyan & Zisserman 2015); those after the last have as many as it.
VGG_CHANNELS = (32, 64, 96, 128)


def vgg_blocks(depth: int) -> list[BlockSpec]:
    """Return ``depth`` blocks of one convolution each, the deeper the wider."""
    return [BlockSpec(VGG_CHANNELS[min(layer, len(VGG_CHANNELS) - 1)]) for layer in range(depth)]


def network_of(
    inputs: Inputs, blocks: Sequence[BlockSpec], configuration: Configuration, seed: int
) -> ProgressiveModel:
    """Return a network of ``blocks`` with new weights; its normalisers are not fitted yet."""
    with named_random_state(seed, "initialisation"):
        model = ProgressiveModel(
            inputs.stamp_shape, inputs.features, inputs.classes, configuration, mask_channel=inputs.mask_channel
        )
        for block in blocks:
            model.add_block(block.k, block.kind, block.kernel_size)
    return model


def inputs_of(data: Space_Galaxi) -> Inputs:
    """Return what a network for ``data`` sees and tells apart."""
    return Inputs(data.stamp_shape, tuple(data.feature_names), tuple(data.classes), data.mask_channel)
