import doctest
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spacewarps.errors import ModelError
from spacewarps.model import progressive
from spacewarps.model.blocks import BlockSpec
from spacewarps.model.progressive import ProgressiveModel, Widths

pytestmark = pytest.mark.usefixtures("compute")

SMALL = Widths(embedding=12, head_grid=3, dropout=0.1)


def new_model(
    shape: tuple[int, int, int] = (1, 16, 16), features: tuple[str, ...] = ("z", "z_err")
) -> ProgressiveModel:
    torch.manual_seed(0)
    return ProgressiveModel(shape, features, ("a", "b", "c"), SMALL)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    n_features=st.integers(0, 4),
    n_classes=st.integers(2, 5),
    ks=st.lists(st.integers(1, 6), max_size=5),
    head_grid=st.integers(1, 6),
    batch=st.integers(1, 3),
)
def test_any_shape_grows_until_it_cannot_be_halved(
    channels: int, height: int, width: int, n_features: int, n_classes: int, ks: list[int], head_grid: int, batch: int
) -> None:
    features = [f"f{number}" for number in range(n_features)]
    classes = [f"c{number}" for number in range(n_classes)]
    model = ProgressiveModel((channels, height, width), features, classes, Widths(3, head_grid, 0.1)).train()
    stamps, values = torch.randn(batch, channels, height, width), torch.randn(batch, n_features)
    assert model(stamps, values).shape == (batch, n_classes)
    grown: list[int] = []
    for k in ks:
        if min(height, width) >> (len(grown) + 1) == 0:
            with pytest.raises(ModelError, match=f"a stamp of {height} x {width} pixels can be halved"):
                model.add_block(k)
            break
        model.add_block(k)
        grown.append(k)
        assert model(stamps, values).shape == (batch, n_classes)
    assert model.ks == grown
    assert len(model.trunk) == len(grown)


def test_blocks_of_all_kinds_stand_on_each_other() -> None:
    model = new_model((1, 35, 33))
    specs = [BlockSpec(4, "inception"), BlockSpec(3, "residual", 5), BlockSpec(2), BlockSpec(5, "separable", 1)]
    for spec in specs:
        model.add_block(spec.k, spec.kind, spec.kernel_size)
    assert model.specs == specs
    assert model.ks == [4, 3, 2, 5]
    assert model.map_shape == (5, 2, 2)
    model(torch.randn(2, 1, 35, 33), torch.rand(2, 2)).square().sum().backward()
    assert all(weights.grad is not None for weights in model.parameters())


def test_a_block_that_cannot_be_leaves_the_network_as_it_was() -> None:
    model = new_model()
    before = list(model.state_dict())
    for bad in ({"k": 3, "kind": "inception"}, {"k": 3, "kind": "dense"}, {"k": 3, "kernel_size": 2}):
        with pytest.raises(ModelError):
            model.add_block(**bad)
    assert model.specs == []
    assert list(model.state_dict()) == before


def test_the_block_of_the_default_kind_draws_one_convolution_and_then_the_head() -> None:
    model = new_model((2, 16, 16))
    state = torch.get_rng_state()
    model.add_block(5)
    torch.set_rng_state(state)
    convolution = nn.Conv2d(2, 5, kernel_size=3, padding=1, bias=False)
    project = nn.Linear(5 * 3 * 3, SMALL.embedding)
    assert torch.equal(model.get_parameter("trunk.0.conv.weight"), convolution.weight)
    assert torch.equal(model.head.project.weight, project.weight)
    assert torch.equal(model.head.project.bias, project.bias)


def test_the_trunk_is_a_module_list_that_starts_empty() -> None:
    model = new_model()
    assert isinstance(model.trunk, nn.ModuleList)
    assert len(model.trunk) == 0
    assert isinstance(model.projector, nn.Sequential)


def test_adding_a_block_rebuilds_the_head_and_keeps_everything_else() -> None:
    model = new_model()
    model.add_block(4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    old_head = model.head
    model.add_block(6)
    assert model.head is not old_head
    assert model.map_shape == (6, 4, 4)
    assert model.head.project.in_features == 6 * 2 * 2
    kept = {name for name in before if not name.startswith("head.project")}
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert model.get_parameter("trunk.1.conv.weight").shape[1] == 4


def test_a_new_block_is_in_the_mode_of_the_rest() -> None:
    model = new_model().eval()
    model.add_block(2)
    assert not any(module.training for module in model.modules())
    model.train()
    model.add_block(2)
    assert all(module.training for module in model.modules())


def test_more_blocks_than_halvings_is_said_in_one_line() -> None:
    model = new_model((1, 9, 5))
    model.add_block(2)
    model.add_block(2)
    with pytest.raises(ModelError) as caught:
        model.add_block(2)
    assert str(caught.value) == (
        "a stamp of 9 x 5 pixels can be halved 2 times at most, but 3 blocks were asked for; "
        "ask for fewer (search.max_layers)"
    )
    assert model.ks == [2, 2]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ProgressiveModel((0, 8, 8), (), ("a", "b")), r"stamp_shape must be three positive sizes"),
        (lambda: ProgressiveModel((8, 8), (), ("a", "b")), r"stamp_shape must be three positive sizes"),  # type: ignore[arg-type]
        (lambda: ProgressiveModel((1, 8, 8), (), ("a",)), r"at least two classes, but got classes=\['a'\]"),
        (lambda: Widths(embedding=0), r"embedding and head_grid must be at least 1 .*embedding=0"),
        (lambda: Widths(head_grid=0), r"head_grid=0"),
        (lambda: Widths(dropout=1.0), r"dropout=1\.0"),
        (lambda: Widths(dropout=float("nan")), r"dropout=nan"),
        (lambda: new_model().add_block(0), r"at least one channel, but got k=0"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_whole_numbers_and_floats_give_the_same_bits() -> None:
    model = new_model().eval()
    stamps = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    features = torch.tensor([[1, 2], [3, 4], [0, 1]])
    assert torch.equal(model(stamps, features), model(stamps.float(), features.float()))


def test_without_features_there_is_no_projector_and_none_need_be_given() -> None:
    model = new_model(features=()).eval()
    model.add_block(3)
    stamps = torch.randn(2, 1, 16, 16)
    assert not hasattr(model, "projector")
    assert torch.equal(model(stamps), model(stamps, torch.empty(2, 0)))


@pytest.mark.parametrize(
    ("stamps", "features", "message"),
    [
        ((2, 1, 15, 16), (2, 2), r"takes stamps \[B, 1, 16, 16\], but got \[2, 1, 15, 16\]"),
        ((1, 16, 16), (1, 2), r"takes stamps \[B, 1, 16, 16\], but got \[1, 16, 16\]"),
        ((2, 1, 16, 16), None, r"takes 2 features \(z, z_err\) for each of 2 stamps, but got none"),
        ((2, 1, 16, 16), (2, 3), r"takes 2 features \(z, z_err\) for each of 2 stamps, but got \[2, 3\]"),
        ((2, 1, 16, 16), (1, 2), r"takes 2 features \(z, z_err\) for each of 2 stamps, but got \[1, 2\]"),
    ],
)
def test_inputs_of_another_shape_are_said_in_one_line(
    stamps: tuple[int, ...], features: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        new_model()(torch.zeros(stamps), None if features is None else torch.zeros(features))


def test_image_and_features_both_reach_the_classifier() -> None:
    model = new_model()
    model.add_block(3)
    stamps = torch.randn(2, 1, 16, 16, requires_grad=True)
    features = torch.rand(2, 2, requires_grad=True)
    model(stamps, features).square().sum().backward()
    assert stamps.grad is not None
    assert features.grad is not None
    assert stamps.grad.abs().sum() > 0
    assert (features.grad != 0).all()
    assert model.head.classify.in_features == 2 * SMALL.embedding


@pytest.mark.parametrize("bad", [float("inf"), -1.0, 0.0, -9999.0])
def test_every_invalid_error_gives_the_logits_of_a_missing_one(bad: float) -> None:
    model = new_model().eval()
    model.fit_normalisers(np.zeros((2, 1, 16, 16)), torch.rand(20, 2) + 0.1)
    stamps = torch.randn(1, 1, 16, 16)
    missing = model(stamps, torch.tensor([[0.4, float("nan")]]))
    assert torch.equal(model(stamps, torch.tensor([[0.4, bad]])), missing)
    assert not torch.equal(model(stamps, torch.tensor([[0.4, 0.2]])), missing)


def test_normalisers_change_by_being_fitted_only() -> None:
    model = new_model()
    model.add_block(2)
    model.fit_normalisers(np.random.default_rng(0).normal(9, 2, size=(8, 1, 16, 16)), torch.rand(8, 2))
    normalisers = ("stamp_normaliser", "feature_normaliser")
    before = {name: t.clone() for name, t in model.state_dict().items() if name.startswith(normalisers)}
    assert before["stamp_normaliser.sky"].item() == pytest.approx(9, abs=0.5)
    model.train()(torch.randn(4, 1, 16, 16), torch.rand(4, 2)).sum().backward()
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(name.startswith(normalisers) for name, _ in model.named_parameters())


def test_new_weights_keep_the_architecture_and_the_normalisers() -> None:
    model = new_model()
    model.add_block(4)
    model.add_block(3, "residual", 5)
    model.fit_normalisers(np.random.default_rng(0).normal(size=(8, 1, 16, 16)), torch.rand(8, 2))
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    anew = model.with_new_weights()
    assert (anew.specs, anew.inputs, anew.widths) == (model.specs, model.inputs, model.widths)
    state = anew.state_dict()
    assert all(torch.equal(tensor, old[name]) for name, tensor in state.items() if "normaliser" in name)
    assert not any(torch.equal(w, old[name]) for name, w in state.items() if name.endswith(("conv.weight", "t.weight")))
    assert all(torch.equal(tensor, old[name]) for name, tensor in model.state_dict().items())


def test_trainable_params_are_counted() -> None:
    model = ProgressiveModel((2, 8, 8), (), ("a", "b"), Widths(embedding=3, head_grid=2))
    model.add_block(4)
    assert model.trainable_params == 2 * 4 * 9 + 2 * 4 + (4 * 2 * 2 * 3 + 3) + (3 * 2 + 2)


def test_the_example_of_the_documentation_runs() -> None:
    result = doctest.testmod(progressive)
    assert result.attempted > 0
    assert result.failed == 0
