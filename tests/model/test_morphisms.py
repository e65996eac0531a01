import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spacewarps.errors import ModelError
from spacewarps.model.blocks import BlockSpec
from spacewarps.model.morphisms import scale_and_jitter, widen_block
from spacewarps.model.progressive import ProgressiveModel, Widths
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.seeds import torch_generator

pytestmark = pytest.mark.usefixtures("compute")


@pytest.fixture
def network() -> ProgressiveModel:
    torch.manual_seed(0)
    model = ProgressiveModel((1, 16, 16), ("z",), ("a", "b"))
    model.add_block(32)
    return model


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(network.state_dict())


def test_scale_1_and_jitter_0_is_the_identity(network: ProgressiveModel) -> None:
    before = state(network)
    scale_and_jitter(network, 1.0, 0.0, torch_generator(0))
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_the_identity_holds_for_weights_that_diverged(network: ProgressiveModel) -> None:
    nn.init.constant_(network.head.project.bias, torch.inf)
    nn.init.constant_(network.head.classify.bias, 3e38)
    network.head.classify.bias.data[0] = -3e38
    before = state(network)
    scale_and_jitter(network, 1.0, 0.0, torch_generator(0))
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_weights_are_scaled_and_statistics_are_not(network: ProgressiveModel) -> None:
    network.train()(torch.randn(4, 1, 16, 16), torch.randn(4, 1))
    before = state(network)
    scale_and_jitter(network, 0.5, 0.0, torch_generator(0))
    learned = dict(network.named_parameters())
    for name, now in network.state_dict().items():
        assert torch.equal(now, before[name] * 0.5 if name in learned else before[name])


def test_noise_is_in_standard_deviations_of_each_tensor_before_scaling() -> None:
    torch.manual_seed(0)
    network = nn.ModuleList([nn.Linear(200, 200, bias=False) for _ in range(2)])
    nn.init.normal_(network.get_parameter("0.weight"), mean=5.0, std=0.01)
    nn.init.normal_(network.get_parameter("1.weight"), mean=0.0, std=3.0)
    before = state(network)
    scale_and_jitter(network, 2.0, 0.1, torch_generator(0))
    for (name, now), std in zip(network.state_dict().items(), (0.01, 3.0), strict=True):
        noise = now - 2 * before[name]
        assert noise.std().item() == pytest.approx(0.1 * std, rel=0.02)
        assert noise.mean().item() == pytest.approx(0.0, abs=0.002 * std)


def test_weights_that_are_all_the_same_get_no_noise() -> None:
    norm = nn.BatchNorm2d(8)
    scale_and_jitter(norm, 1.0, 0.5, torch_generator(0))
    assert torch.equal(norm.weight, torch.ones(8))


def test_a_single_weight_has_no_deviation_and_gets_no_noise() -> None:
    layer = nn.Linear(1, 1)
    before = state(layer)
    scale_and_jitter(layer, 1.0, 0.5, torch_generator(0))
    assert all(torch.equal(before[name], now) for name, now in layer.state_dict().items())


def test_the_generator_alone_decides_the_noise(network: ProgressiveModel) -> None:
    twin, other = copy.deepcopy(network), copy.deepcopy(network)
    scale_and_jitter(network, 1.0, 0.1, torch_generator(0))
    torch.rand(100)
    scale_and_jitter(twin, 1.0, 0.1, torch_generator(0))
    scale_and_jitter(other, 1.0, 0.1, torch_generator(1))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    assert not torch.equal(network.head.project.weight, other.head.project.weight)


def test_the_layout_in_memory_does_not_matter(network: ProgressiveModel) -> None:
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)
    scale_and_jitter(network, 0.9, 0.1, torch_generator(0))
    scale_and_jitter(twin, 0.9, 0.1, torch_generator(0))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


KINDS = ["conv", "residual", "separable", "inception"]
# One of each kind, and each of them before and after another one.
MIXED = tuple(BlockSpec(4 + number % 2, kind) for number, kind in enumerate([*KINDS, "conv"]))


def grown(
    specs: tuple[BlockSpec, ...],
    stamp_shape: tuple[int, int, int] = (1, 32, 32),
    features: tuple[str, ...] = ("z",),
    seed: int = 0,
) -> ProgressiveModel:
    """Return a network in eval mode whose BatchNorms are not those of a new one; some of their scales are negative."""
    torch.manual_seed(seed)
    model = ProgressiveModel(stamp_shape, features, ("a", "b", "c"), Widths(embedding=6, head_grid=3))
    for spec in specs:
        model.add_block(spec.k, spec.kind, spec.kernel_size)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.get_buffer("running_mean"), std=0.3)
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
            norm.get_buffer("num_batches_tracked").fill_(7)
    return model.eval()


def assert_same_function(model: ProgressiveModel, wider: ProgressiveModel) -> None:
    stamps, features = torch.randn(4, *model.inputs.stamp_shape), torch.randn(4, len(model.inputs.features))
    with torch.inference_mode():
        logits = model(stamps, features)
        torch.testing.assert_close(wider(stamps, features), logits, atol=1e-5, rtol=1e-5)
    assert logits.std() > 1e-3


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == other_name and torch.equal(a, b) for (name, a), (other_name, b) in pairs)


@st.composite
def block_specs(draw: st.DrawFn) -> BlockSpec:
    kind = draw(st.sampled_from(KINDS))
    return BlockSpec(draw(st.integers(4 if kind == "inception" else 1, 9)), kind, draw(st.sampled_from([1, 3, 5])))


@given(
    specs=st.lists(block_specs(), min_size=1, max_size=3),
    place=st.integers(0, 2),
    more=st.integers(0, 20),
    height=st.integers(8, 21),
    width=st.integers(8, 21),
    channels=st.integers(1, 3),
    features=st.sampled_from([(), ("z",), ("z", "z_err")]),
    seed=st.integers(0, 2**32),
)
def test_a_widened_network_computes_the_same(
    specs: list[BlockSpec],
    place: int,
    more: int,
    height: int,
    width: int,
    channels: int,
    features: tuple[str, ...],
    seed: int,
) -> None:
    position = place % len(specs)
    old = specs[position]
    model = grown(tuple(specs), (channels, height, width), features, seed)
    wider = widen_block(model, position, old.k + more, torch_generator(seed))
    expected = [*specs[:position], BlockSpec(old.k + more, old.kind, old.kernel_size), *specs[position + 1 :]]
    assert wider.specs == expected
    assert_same_function(model, wider)


@pytest.mark.parametrize("position", range(len(MIXED)))
def test_the_same_k_is_the_identity_to_the_bit(position: int) -> None:
    model = grown(MIXED)
    assert same_bits(widen_block(model, position, MIXED[position].k, torch_generator(0)), model)


@pytest.mark.parametrize("position", range(len(MIXED)))
def test_the_source_and_the_random_state_of_torch_stay(position: int) -> None:
    model = grown(MIXED)
    twin, random_state = copy.deepcopy(model), torch.get_rng_state()
    wider = widen_block(model, position, 11, torch_generator(0))
    assert torch.equal(torch.get_rng_state(), random_state)
    for weights in wider.state_dict().values():
        weights.zero_()
    assert model.specs == twin.specs
    assert same_bits(model, twin)
    assert_same_function(model, twin)


@pytest.mark.parametrize("position", range(len(MIXED)))
def test_the_generator_alone_decides_which_channels_are_repeated(position: int) -> None:
    model = grown(MIXED)
    wider = widen_block(model, position, 40, torch_generator(0))
    torch.rand(100)
    assert same_bits(widen_block(model, position, 40, torch_generator(0)), wider)
    assert not same_bits(widen_block(model, position, 40, torch_generator(1)), wider)


def test_every_old_channel_is_kept_and_new_ones_repeat_all_of_them() -> None:
    model = grown((BlockSpec(3),))
    wider = widen_block(model, 0, 300, torch_generator(0))
    before, after = (network.get_parameter("trunk.0.norm.weight") for network in (model, wider))
    assert torch.equal(after[:3], before)
    values, copies = after.unique(return_counts=True)  # type: ignore[no-untyped-call]
    assert torch.equal(values, before.sort().values)
    assert copies.min() > 70
    assert wider.get_buffer("trunk.0.norm.num_batches_tracked") == 7


@pytest.mark.parametrize("position", range(len(MIXED)))
def test_a_network_is_widened_again_and_again(position: int) -> None:
    model = wider = grown(MIXED)
    for k in (6, 7, 13):
        wider = widen_block(wider, position, k, torch_generator(k))
    for other in range(len(MIXED)):
        wider = widen_block(wider, other, 17, torch_generator(other))
    assert wider.ks == [17] * len(MIXED)
    assert_same_function(model, wider)


def test_a_widened_network_is_like_any_other() -> None:
    model = grown(MIXED[:4])
    for position in range(4):
        model = widen_block(model, position, 9, torch_generator(0))
    unpacked = unpack_model(pack_model(model))
    assert unpacked.specs == model.specs
    assert_same_function(model, unpacked)
    assert str(model) == str(model.with_new_weights())
    model.add_block(3)
    scale_and_jitter(model, 1.0, 0.05, torch_generator(0))
    model.train()(torch.randn(4, 1, 32, 32), torch.randn(4, 1)).square().sum().backward()
    assert all(weights.grad is not None for weights in model.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("position", range(len(MIXED)))
def test_the_mode_is_kept(position: int, training: bool) -> None:
    wider = widen_block(grown(MIXED).train(training), position, 9, torch_generator(0))
    assert all(module.training is training for module in wider.modules())


def test_widening_does_not_depend_on_the_layout_in_memory() -> None:
    model = grown(MIXED)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for position in range(len(MIXED)):
        wider = widen_block(model, position, 9, torch_generator(0))
        assert same_bits(widen_block(last, position, 9, torch_generator(0)), wider)


@pytest.mark.parametrize(
    ("position", "k", "message"),
    [
        (0, 3, "the block at position 0 has k=4, and cannot be widened to k=3"),
        (1, 0, "the block at position 1 has k=5, and cannot be widened to k=0"),
        (5, 9, "the network has 5 blocks, but the block at position 5 was asked for"),
        (-1, 9, "the network has 5 blocks, but the block at position -1 was asked for"),
    ],
)
def test_what_cannot_be_widened_is_said_in_one_line(position: int, k: int, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        widen_block(grown(MIXED), position, k, torch_generator(0))
    assert str(caught.value) == message
