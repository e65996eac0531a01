import copy

import pytest
import torch
from torch import nn

from spacewarps.model.morphisms import scale_and_jitter
from spacewarps.model.progressive import ProgressiveModel
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
    nn.init.normal_(network[0].weight, mean=5.0, std=0.01)
    nn.init.normal_(network[1].weight, mean=0.0, std=3.0)
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
