"""Networks that nobody searched for."""

from spacewarps.model.settings import BlockSpec

#: Channels of the blocks of a network like VGG (Simonyan & Zisserman 2015); those after the last have as many as it.
VGG_CHANNELS = (32, 64, 96, 128)


def vgg_blocks(depth: int) -> list[BlockSpec]:
    """Return ``depth`` blocks of one convolution each, the deeper the wider."""
    return [BlockSpec(VGG_CHANNELS[min(layer, len(VGG_CHANNELS) - 1)]) for layer in range(depth)]
