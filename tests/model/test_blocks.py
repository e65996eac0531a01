import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from spacewarps.errors import ModelError
from spacewarps.model.blocks import BLOCKS, Block, ConvBlock, InceptionBlock
from spacewarps.model.settings import BlockSpec

pytestmark = pytest.mark.usefixtures("compute")

KINDS = ["conv", "residual", "separable", "inception"]


class PlainResidual(nn.Module):
    def __init__(self, channels: int, k: int, size: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, k, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(k),
            nn.ReLU(),
            nn.Conv2d(k, k, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(k),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, k, 1, bias=False), nn.BatchNorm2d(k))

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.main(maps) + self.shortcut(maps)
        return result


class PlainInception(nn.Module):
    def __init__(self, channels: int, k: int, size: int) -> None:
        super().__init__()
        quarter, rest = divmod(k, 4)
        a, b, c, d = (quarter + (branch < rest) for branch in range(4))
        self.point = nn.Conv2d(channels, a, 1, bias=False)
        self.narrow = nn.Conv2d(channels, b, size, padding=size // 2, bias=False)
        self.wide = nn.Conv2d(channels, c, size + 2, padding=size // 2 + 1, bias=False)
        self.pooled = nn.Conv2d(channels, d, 1, bias=False)
        self.norm = nn.BatchNorm2d(k)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = functional.max_pool2d(maps, 3, stride=1, padding=1)
        parts = [self.point(maps), self.narrow(maps), self.wide(maps), self.pooled(pooled)]
        result: Tensor = self.norm(torch.cat(parts, dim=1))
        return result


def plain_body(kind: str, channels: int, k: int, size: int) -> nn.Module:
    if kind == "residual":
        return PlainResidual(channels, k, size)
    if kind == "inception":
        return PlainInception(channels, k, size)
    if kind == "separable":
        return nn.Sequential(
            nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False),
            nn.Conv2d(channels, k, 1, bias=False),
            nn.BatchNorm2d(k),
        )
    return nn.Sequential(nn.Conv2d(channels, k, size, padding=size // 2, bias=False), nn.BatchNorm2d(k))


def plain_twin(block: Block, dropout: float) -> nn.Module:
    """Return a network with the block's weights: its parts in the order in which they are written down."""
    body = plain_body(block.kind, block.channels, block.spec.k, block.spec.kernel_size)
    state = copy.deepcopy(block.state_dict())
    body.load_state_dict(dict(zip(body.state_dict(), state.values(), strict=True)))
    return nn.Sequential(body, nn.ReLU(), nn.Dropout2d(dropout), nn.MaxPool2d(2)).train(block.training)


def run(network: nn.Module, maps: Tensor, seed: int) -> tuple[Tensor, list[Tensor | None], dict[str, Tensor]]:
    """Return the output, all gradients, and what the weights and the statistics are afterwards."""
    maps = maps.clone().requires_grad_()
    torch.manual_seed(seed)
    output = network(maps)
    # Every element of the output has a weight of its own, so that no two gradients are the same.
    (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    gradients = [maps.grad, *(weights.grad for weights in network.parameters())]
    return output.detach(), gradients, network.state_dict()


@given(
    kind=st.sampled_from(KINDS),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    k=st.integers(1, 7),
    kernel_size=st.sampled_from([1, 3, 5, 7]),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    dropout=st.sampled_from([0.0, 0.3, 0.7]),
    training=st.booleans(),
    negative=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_same_bits_as_the_layers_in_their_order(
    kind: str,
    batch: int,
    channels: int,
    k: int,
    kernel_size: int,
    height: int,
    width: int,
    dropout: float,
    training: bool,
    negative: bool,
    channels_last: bool,
    seed: int,
) -> None:
    # The maps are small and need a gradient, which no fast way is for; tests/model/test_kernels.py is about those.
    k += 3 if kind == "inception" else 0
    torch.manual_seed(seed)
    block = BLOCKS[kind](channels, k, dropout, kernel_size).train(training)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.get_buffer("running_mean"))
            if negative:
                norm.weight.data.copy_(-norm.weight.abs())
    plain = plain_twin(block, dropout)
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


def test_the_kinds_are_known_by_their_names_and_end_in_pooling() -> None:
    assert list(BLOCKS) == KINDS
    for kind, block_class in BLOCKS.items():
        block = block_class(3, 5, 0.25, 7)
        assert block.spec == BlockSpec(5, kind, 7)
        assert [type(layer) for layer in block.children()][-3:] == [nn.ReLU, nn.Dropout2d, nn.MaxPool2d]
        assert block.dropout.p == 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_whole_channels_are_dropped_in_training_and_none_in_eval(kind: str) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](1, 64, 0.5)
    # High enough for every channel to have a positive pixel.
    nn.init.constant_(block.get_parameter("norm2.bias" if kind == "residual" else "norm.bias"), 2)
    maps = torch.randn(8, 1, 8, 8)
    dropped = (block(maps) == 0).all(dim=(2, 3)).float().mean()
    assert 0.4 < dropped < 0.6
    assert not (block.eval()(maps) == 0).all(dim=(2, 3)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_and_channels_last_go_through_and_give_the_same_bits_again(kind: str) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](3, 8, 0.0, 5).to(memory_format=torch.channels_last)
    maps = torch.randn(4, 3, 11, 9).contiguous(memory_format=torch.channels_last)

    def run_in_bf16() -> tuple[Tensor, list[Tensor | None], dict[str, Tensor]]:
        with torch.autocast("cpu", torch.bfloat16):
            return run(copy.deepcopy(block), maps, seed=0)

    output, gradients, _ = run_in_bf16()
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output.float(), block(maps), atol=0.1, rtol=0.05)
    again, gradients_again, _ = run_in_bf16()
    assert torch.equal(output, again)
    for gradient, same in zip(gradients, gradients_again, strict=True):
        assert gradient is not None
        assert same is not None
        assert gradient.abs().sum() > 0
        assert torch.equal(gradient, same)


@given(k=st.integers(4, 300))
def test_branches_share_evenly_and_never_shrink_when_the_block_widens(k: int) -> None:
    shares = InceptionBlock.shares(k)
    assert len(shares) == 4
    assert sum(shares) == k
    assert max(shares) - min(shares) <= 1
    assert all(wider >= share for share, wider in zip(shares, InceptionBlock.shares(k + 1), strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 8.5}, "a block's k must be a whole number, but got 8.5"),
        ({"k": "8"}, "a block's k must be a whole number, but got '8'"),
        ({"k": True}, "a block's k must be a whole number, but got True"),
        ({"k": None}, "a block's k must be a whole number, but got None"),
        ({"k": 4, "kernel_size": 3.0}, "a block's kernel_size must be a whole number, but got 3.0"),
        (
            {"k": 4, "kind": ["conv"]},
            "a block's kind must be one of conv, residual, separable, inception, but got kind=['conv']",
        ),
        ({"k": 0}, "a block of kind conv must have a k of at least 1, but got k=0"),
        ({"k": -3, "kind": "residual"}, "a block of kind residual must have a k of at least 1, but got k=-3"),
        (
            {"k": 3, "kind": "inception"},
            "a block of kind inception must have a k of at least 4, but got k=3",
        ),
        ({"k": 4, "kernel_size": 4}, "a block's kernel_size must be odd and from 1 to 15, but got kernel_size=4"),
        ({"k": 4, "kernel_size": 17}, "a block's kernel_size must be odd and from 1 to 15, but got kernel_size=17"),
        ({"k": 4, "kernel_size": -1}, "a block's kernel_size must be odd and from 1 to 15, but got kernel_size=-1"),
        (
            {"k": 4, "kind": "dense"},
            "a block's kind must be one of conv, residual, separable, inception, but got kind='dense'",
        ),
    ],
)
def test_a_block_that_cannot_be_is_said_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        BlockSpec(**arguments)
    assert str(caught.value) == message


def test_a_block_is_checked_wherever_it_is_made() -> None:
    with pytest.raises(ModelError, match="k of at least 4"):
        InceptionBlock(1, 3, 0.1)
    with pytest.raises(ModelError, match="must be odd"):
        ConvBlock(1, 3, 0.1, kernel_size=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel_size", [1, 15])
def test_the_smallest_and_the_largest_kernel_keep_the_map(kind: str, kernel_size: int) -> None:
    assert BLOCKS[kind](2, 4, 0.1, kernel_size)(torch.randn(2, 2, 5, 4)).shape == (2, 4, 2, 2)
