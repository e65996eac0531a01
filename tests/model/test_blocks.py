import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spacewarps.model.blocks import ConvBlock

pytestmark = pytest.mark.usefixtures("compute")


def run(network: nn.Module, maps: Tensor, seed: int) -> tuple[Tensor, list[Tensor | None], dict[str, Tensor]]:
    """Return the output, all gradients, and what the weights and the statistics are afterwards."""
    maps = maps.clone().requires_grad_()
    torch.manual_seed(seed)
    output = network(maps)
    # Every element of the output has a weight of its own, so that no two gradients are the same.
    (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    gradients = [maps.grad, *(weights.grad for weights in network.parameters())]
    return output.detach(), gradients, network.state_dict()


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    k=st.integers(1, 5),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    dropout=st.sampled_from([0.0, 0.3, 0.7]),
    training=st.booleans(),
    negative=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_same_bits_as_the_layers_in_their_order(
    batch: int,
    channels: int,
    k: int,
    height: int,
    width: int,
    dropout: float,
    training: bool,
    negative: bool,
    channels_last: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    block = ConvBlock(channels, k, dropout).train(training)
    with torch.no_grad():
        block.norm.weight.normal_()
        block.norm.bias.normal_()
        block.norm.running_mean.normal_()
        if negative:
            block.norm.weight.copy_(-block.norm.weight.abs())
    other = copy.deepcopy(block)
    plain = nn.Sequential(other.conv, other.norm, other.relu, other.dropout, other.pool).train(training)
    maps = torch.randn(batch, channels, height, width)
    if channels_last:
        maps = maps.contiguous(memory_format=torch.channels_last)

    output, gradients, state = run(block, maps, seed)
    plain_output, plain_gradients, plain_state = run(plain, maps, seed)
    assert output.shape == (batch, k, height // 2, width // 2)
    assert torch.equal(output, plain_output)
    for gradient, expected in zip(gradients, plain_gradients, strict=True):
        assert gradient is not None
        assert expected is not None
        assert torch.equal(gradient, expected)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), plain_state.values(), strict=True))


def test_the_layers_are_those_of_a_block() -> None:
    layers = [type(layer) for layer in ConvBlock(1, 2, 0.1).children()]
    assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout2d, nn.MaxPool2d]


def test_whole_channels_are_dropped_in_training_and_none_in_eval() -> None:
    torch.manual_seed(0)
    block = ConvBlock(1, 64, 0.5)
    nn.init.ones_(block.norm.bias)
    maps = torch.randn(8, 1, 8, 8)
    dropped = (block(maps) == 0).all(dim=(2, 3)).float().mean()
    assert 0.4 < dropped < 0.6
    assert not (block.eval()(maps) == 0).all(dim=(2, 3)).any()
