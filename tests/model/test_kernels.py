import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from spacewarps.model import kernels
from spacewarps.model.blocks import ConvBlock, ResidualBlock
from spacewarps.model.kernels import convolve, evaluate_block, evaluates, first_block, sees_data
from spacewarps.model.widening import Repeats
from spacewarps.portability import is_pinned, portable_environment

pytestmark = pytest.mark.usefixtures("compute", "products")

# Where two pixels of a window are closer than this, or the larger one is to 0, rounding decides where a gradient goes.
CLEAR = 1e-4

Results = dict[str, Tensor]


@pytest.fixture(scope="module", params=["native", "portable"])
def products(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take products of matrices from MKL, or as a process with portable kernels does from oneDNN."""
    variables = portable_environment() if request.param == "portable" else {}
    if not variables and request.param == "portable":
        pytest.skip("portable kernels cannot be had here")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        assert is_pinned() == (request.param == "portable")
        yield


class First(nn.Module):
    """The layers of a block that sees data, in the order in which they are written, or in the fast way."""

    def __init__(self, channels: int, k: int, dropout: float, size: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, k, size, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(k, momentum=momentum)
        self.dropout = nn.Dropout2d(dropout)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        nn.init.normal_(self.norm.get_buffer("running_mean"))
        nn.init.uniform_(self.norm.get_buffer("running_var"), 0.5, 2)

    def plain(self, maps: Tensor) -> Tensor:
        pooled: Tensor = functional.max_pool2d(self.dropout(torch.relu(self.norm(self.conv(maps)))), 2)
        return pooled

    def fast(self, maps: Tensor) -> Tensor:
        return first_block(maps, self.conv, self.norm, self.dropout)

    @torch.no_grad()
    def clear(self, maps: Tensor) -> Tensor:
        """Say of which windows the largest pixel is clearly the largest, and clearly not 0."""
        normalised = copy.deepcopy(self.norm)(self.conv(maps))
        batch, k, height, width = normalised.shape
        windows = normalised.unfold(2, 2, 2).unfold(3, 2, 2).reshape(batch, k, height // 2, width // 2, 4)
        largest, next_largest = windows.topk(2, dim=4).values.unbind(4)
        is_clear: Tensor = (largest - next_largest > CLEAR) & (largest.abs() > CLEAR)
        return is_clear


def results(layers: First, way: str, maps: Tensor, clear: Tensor, seed: int) -> Results:
    """Return the output, the gradients, and what the statistics are afterwards; clear windows alone have gradients."""
    layers = copy.deepcopy(layers)
    torch.manual_seed(seed)
    output = getattr(layers, way)(maps)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output * (weights * clear).to(output.dtype)).sum().backward()
    gradients = {f"gradient of {name}": tensor.grad for name, tensor in layers.named_parameters()}
    return {"output": output.detach(), **gradients, **dict(layers.norm.named_buffers()), "draws": torch.get_rng_state()}


def assert_as_good(fast: Results, plain: Results, exact: Results) -> None:
    """Check that ``fast`` is as near to ``exact``, in float64, as ``plain``, in float32, but for a factor."""
    assert fast.keys() == plain.keys() == exact.keys()
    for name, truth in exact.items():
        if not truth.is_floating_point():
            assert torch.equal(fast[name], truth), name
            continue
        assert fast[name].dtype == plain[name].dtype == torch.float32
        assert fast[name].shape == truth.shape
        error, plain_error = (float((value - truth).abs().max()) for value in (fast[name], plain[name]))
        # A gradient can be 0, as that of a filter of one weight, whose size BatchNorm takes out, and rounding is left.
        assert error <= max(10 * plain_error, 1e-5 * max(1.0, float(truth.abs().max()))), name


def assert_first_as_good(layers: First, maps: Tensor, seed: int) -> float:
    """Check that the fast way is as exact as the plain one, and return the share of the windows that are clear."""
    wide, wide_maps = copy.deepcopy(layers).double(), maps.double()
    clear = wide.clear(wide_maps)
    fast, plain = (results(layers, way, maps, clear, seed) for way in ("fast", "plain"))
    assert_as_good(fast, plain, results(wide, "plain", wide_maps, clear, seed))
    return float(clear.float().mean())


def groups_of(stamps: int, k: int, maps: Tensor) -> AbstractContextManager[object]:
    return patch.object(kernels, "_GROUP_BYTES", 4 * k * maps[0, 0].numel() * stamps)


@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 4),
    k=st.integers(1, 9),
    size=st.sampled_from([1, 3, 5, 7]),
    height=st.integers(6, 13),
    width=st.integers(6, 13),
    dropout=st.sampled_from([0.0, 0.3, 0.7]),
    momentum=st.sampled_from([0.1, 0.7]),
    training=st.booleans(),
    negative=st.booleans(),
    channels_last=st.booleans(),
    stamps=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_a_first_block_is_as_exact_as_its_layers_in_their_order(
    batch: int,
    channels: int,
    k: int,
    size: int,
    height: int,
    width: int,
    dropout: float,
    momentum: float,
    training: bool,
    negative: bool,
    channels_last: bool,
    stamps: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layers = First(channels, k, dropout, size, momentum).train(training)
    if negative:
        layers.norm.weight.data.copy_(-layers.norm.weight.abs())
    maps = torch.randn(batch, channels, height, width) + 0.5
    if channels_last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    with groups_of(stamps, k, maps):
        assert_first_as_good(layers, maps, seed)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("channels", "k", "size"), [(1, 40, 3), (1, 32, 1), (1, 80, 5), (3, 96, 3)])
def test_a_first_block_of_real_stamps_is_as_exact(channels: int, k: int, size: int, training: bool) -> None:
    torch.manual_seed(0)
    layers = First(channels, k, 0.2, size).train(training)
    assert assert_first_as_good(layers, torch.asinh(3 * torch.randn(5, channels, 75, 75)), seed=1) > 0.9


def test_maps_far_from_0_are_normalised_as_exactly() -> None:
    torch.manual_seed(0)
    layers, maps = First(1, 32, 0.0, 3, momentum=1.0), torch.randn(3, 1, 32, 32) + 100
    assert_first_as_good(layers, maps, seed=0)
    wide = copy.deepcopy(layers).double()
    wide.plain(maps.double())
    layers.fast(maps)
    torch.testing.assert_close(layers.norm.get_buffer("running_var").double(), wide.norm.running_var, rtol=2e-7, atol=0)


def test_channels_that_are_the_same_everywhere_have_a_variance_of_0() -> None:
    torch.manual_seed(0)
    layers = First(1, 32, 0.0, 1, momentum=1.0)
    assert layers.fast(torch.full((3, 1, 40, 40), 1e9 / 3)).isfinite().all()
    assert (layers.norm.get_buffer("running_var") >= 0).all()


@contextmanager
def uninitialised_memory_filled() -> Iterator[None]:
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", [True, False])
def test_a_first_block_gives_the_same_bits_whatever_ran_before(training: bool) -> None:
    torch.manual_seed(0)
    layers, maps = First(1, 64, 0.2, 3).train(training), torch.randn(11, 1, 75, 75)
    other, other_maps = First(1, 48, 0.2, 5), torch.randn(30, 1, 50, 41)
    everywhere = torch.ones((), dtype=torch.bool)
    before = results(layers, "fast", maps, everywhere, seed=3)
    results(other, "fast", other_maps, everywhere, seed=4)
    with uninitialised_memory_filled():
        again = results(layers, "fast", maps.contiguous(memory_format=torch.channels_last), everywhere, seed=3)
    assert all(torch.equal(before[name], again[name]) for name in before)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_last_out_of_a_first_block(channels: int, channels_last: bool) -> None:
    block = ConvBlock(channels, 96, 0.1)
    maps = torch.randn(2, channels, 75, 75)
    if channels_last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    assert block(maps).shape == (2, 96, 37, 37)
    assert block(maps).stride() == (96 * 37 * 37, 1, 96 * 37, 96)


@given(
    channels=st.integers(1, 5),
    k=st.integers(1, 40),
    size=st.sampled_from([1, 3, 5]),
    batch=st.integers(1, 3),
    shape=st.tuples(st.integers(32, 60), st.integers(32, 60)),
    seed=st.integers(0, 2**32),
)
def test_without_gradients_a_block_gives_what_its_layers_give(
    channels: int, k: int, size: int, batch: int, shape: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    layers, maps = First(channels, k, 0.3, size).eval(), torch.randn(batch, channels, *shape)
    with torch.inference_mode():
        assert evaluates(maps, layers.norm)
        with patch.object(kernels, "_GROUP_BYTES", 1):
            one_by_one = evaluate_block(maps, layers.conv, layers.norm)
        torch.testing.assert_close(one_by_one, layers.plain(maps), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(evaluate_block(maps, layers.conv, layers.norm), one_by_one, atol=1e-6, rtol=1e-6)


def test_where_gradients_or_statistics_are_wanted_a_block_is_not_merely_evaluated() -> None:
    layers, maps = First(1, 8, 0.0, 3), torch.randn(2, 1, 75, 75)
    assert not evaluates(maps, layers.eval().norm)
    with torch.no_grad():
        assert not evaluates(maps, layers.train().norm)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_frozen_weights_give_the_same_and_keep_their_statistics(mode: type) -> None:
    torch.manual_seed(0)
    block, maps = ConvBlock(1, 40, 0.3).eval(), torch.randn(3, 1, 75, 75)
    before = copy.deepcopy(block.state_dict())
    expected = block(maps)
    assert expected.requires_grad
    block.requires_grad_(False)
    frozen = block(maps)
    with mode():
        without_gradients = block(maps)
    assert not frozen.requires_grad
    assert torch.equal(frozen, expected)
    assert torch.equal(without_gradients, expected)
    assert all(torch.equal(before[name], now) for name, now in block.state_dict().items())


def test_statistics_are_noted_without_gradients_too() -> None:
    torch.manual_seed(0)
    block, maps = ConvBlock(1, 40, 0.0), torch.randn(3, 1, 75, 75)
    twin = copy.deepcopy(block)
    block(maps)
    with torch.inference_mode():
        twin(maps)
    assert block.norm.num_batches_tracked == 1
    assert all(torch.equal(a, b) for a, b in zip(block.buffers(), twin.buffers(), strict=True))
    assert not block.norm.get_buffer("running_var").requires_grad


@pytest.mark.parametrize(("k", "wider"), [(40, 90), (24, 40)])
def test_a_widened_block_gives_the_same(k: int, wider: int) -> None:
    torch.manual_seed(0)
    block, maps = ConvBlock(1, k, 0.3), torch.randn(3, 1, 75, 75)
    block(maps)
    repeats = Repeats(torch.arange(wider) % k)
    with torch.inference_mode():
        expected = block.eval()(maps)[:, repeats.sources]
        torch.testing.assert_close(block.widened(Repeats.none(1), repeats)(maps), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [torch.inf, torch.nan, 3e38])
@pytest.mark.parametrize("training", [True, False])
def test_a_diverged_network_goes_through(value: float, training: bool) -> None:
    torch.manual_seed(0)
    blocks = [ConvBlock(1, 48, 0.3), ConvBlock(48, 48, 0.3)]
    for block in blocks:
        block.conv.weight.data[0] = value
    output = nn.Sequential(*blocks).train(training)(torch.randn(2, 1, 75, 75))
    output.sum().backward()
    assert output.shape == (2, 48, 18, 18)
    gradient = blocks[0].conv.weight.grad
    assert gradient is not None
    assert not gradient.isfinite().all() or not training


@pytest.mark.parametrize(
    ("channels", "k", "size", "side", "fast"),
    [
        (1, 32, 3, 75, True),
        (1, 31, 3, 75, False),
        (1, 31, 1, 75, False),
        (1, 75, 5, 75, True),
        (1, 74, 5, 75, False),
        (3, 81, 3, 32, True),
        (3, 80, 3, 32, False),
        (1, 64, 3, 31, False),
    ],
)
def test_a_block_takes_the_fast_way_where_it_is_one(channels: int, k: int, size: int, side: int, fast: bool) -> None:
    torch.manual_seed(0)
    block, maps = ConvBlock(channels, k, 0.3, size), torch.randn(2, channels, side, side)
    layers = (block.conv, block.norm, block.relu, block.dropout, block.pool)
    plain = nn.Sequential(*copy.deepcopy(layers))
    twin = copy.deepcopy(block)
    assert sees_data(maps, block.conv) is fast
    torch.manual_seed(1)
    output = block(maps)
    torch.manual_seed(1)
    assert torch.equal(output, plain(maps)) is not fast
    torch.manual_seed(1)
    assert torch.equal(output, first_block(maps, twin.conv, twin.norm, twin.dropout)) is fast


def test_only_float32_on_the_cpu_that_needs_no_gradient_takes_the_fast_way() -> None:
    conv, maps = nn.Conv2d(1, 64, 3, padding=1, bias=False), torch.randn(2, 1, 75, 75)
    assert sees_data(maps, conv)
    assert not sees_data(maps.double(), conv)
    assert not sees_data(maps.bfloat16(), conv)
    assert not sees_data(maps.to("meta"), conv)
    assert not sees_data(maps.requires_grad_(), conv)
    with torch.autocast("cpu", torch.bfloat16):
        assert not sees_data(maps.detach(), conv)


def gradients_of(network: nn.Module, maps: Tensor) -> Results:
    """Return what comes out and all gradients, that of ``maps`` included."""
    network, maps = copy.deepcopy(network), maps.detach().clone().requires_grad_()
    output = network(maps)
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)).sum().backward()
    return {"output": output.detach(), "maps": maps.grad, **{n: p.grad for n, p in network.named_parameters()}}


class Convolution(nn.Module):
    """A 3x3 convolution in the fast way."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, maps: Tensor) -> Tensor:
        return convolve(maps, self.conv)


class PlainConvolution(Convolution):
    """The same in the plain way."""

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.conv(maps)
        return result


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    ("batch", "channels", "k", "height", "width"),
    [(3, 48, 48, 37, 37), (1, 50, 64, 32, 33), (2, 64, 49, 25, 41), (2, 48, 48, 1, 1000), (2, 48, 48, 1000, 1)],
)
def test_a_wide_convolution_has_gradients_as_exact(
    batch: int, channels: int, k: int, height: int, width: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, k, 3, padding=1, bias=False)
    maps = torch.randn(batch, channels, height, width)
    if channels_last:
        conv, maps = conv.to(memory_format=torch.channels_last), maps.contiguous(memory_format=torch.channels_last)
    plain = gradients_of(PlainConvolution(conv), maps)
    exact = gradients_of(PlainConvolution(copy.deepcopy(conv)).double(), maps.double())
    fast = gradients_of(Convolution(conv), maps)
    assert torch.equal(fast["output"], plain["output"])
    assert not torch.equal(fast["conv.weight"], plain["conv.weight"])
    assert_as_good(fast, plain, exact)
    gradients_of(Convolution(nn.Conv2d(64, 64, 3, padding=1, bias=False)), torch.randn(1, 64, 40, 40))
    with uninitialised_memory_filled():
        again = gradients_of(Convolution(conv), maps)
    assert all(torch.equal(fast[name], again[name]) for name in fast)


@pytest.mark.parametrize(
    ("channels", "k", "size", "side"), [(47, 48, 3, 37), (48, 47, 3, 37), (48, 48, 5, 37), (48, 48, 3, 31)]
)
def test_any_other_convolution_is_the_plain_one_to_the_bit(channels: int, k: int, size: int, side: int) -> None:
    torch.manual_seed(0)
    conv, maps = nn.Conv2d(channels, k, size, padding=size // 2, bias=False), torch.randn(2, channels, side, side)
    fast, plain = gradients_of(Convolution(conv), maps), gradients_of(PlainConvolution(conv), maps)
    assert all(torch.equal(fast[name], plain[name]) for name in plain)


def test_maps_and_filters_have_gradients_only_where_they_need_them() -> None:
    torch.manual_seed(0)
    conv, maps = nn.Conv2d(48, 48, 3, padding=1, bias=False), torch.randn(2, 48, 37, 37)
    with patch.object(kernels, "conv2d_input", side_effect=AssertionError):
        convolve(maps, conv).sum().backward()  # type: ignore[no-untyped-call]
    assert conv.weight.grad is not None
    conv.requires_grad_(False)
    assert not convolve(maps, conv).requires_grad
    convolve(maps.requires_grad_(), conv).sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None


@pytest.mark.parametrize("block_class", [ConvBlock, ResidualBlock])
def test_wide_blocks_have_the_same_output_and_gradients_as_exact(block_class: type) -> None:
    torch.manual_seed(0)
    block, maps = block_class(48, 48, 0.0), torch.randn(2, 48, 32, 32)
    with patch.object(kernels, "_LARGE_MAP", 10**9):
        plain = gradients_of(block, maps)
    fast, exact = gradients_of(block, maps), gradients_of(copy.deepcopy(block).double(), maps.double())
    assert torch.equal(fast["output"], plain["output"])
    assert not all(torch.equal(fast[name], plain[name]) for name in fast)
    assert_as_good(fast, plain, exact)
