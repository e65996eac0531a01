import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.utils.class_weight import compute_class_weight

from spacewarps.errors import ModelError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.fit import fit, fit_without_validation
from spacewarps.training.prediction import predict, score
from spacewarps.training.score import Epoch
from spacewarps.training.settings import Optimiser, Trains
from spacewarps.training.training import Training, balanced_weights, run_epoch, run_pass

OPTIMISER = Optimiser(batch_size=16, learning_rate=0.01)
EPOCHS = 3

Data = tuple[Space_Galaxi, Space_Galaxi]


@pytest.fixture(scope="module")
def data(draw_survey: Callable[..., PreparedSurvey]) -> Data:
    survey = draw_survey(sizes={"train": 40, "validation": 20}, channels=3)
    return Space_Galaxi(survey, split="train", augmentation=Augmentation()), Space_Galaxi(survey, split="validation")


@pytest.fixture(scope="module")
def large_data(draw_survey: Callable[..., PreparedSurvey]) -> Data:
    """Stamps of 64 pixels, large enough for the ways of computing that are for large maps."""
    survey = draw_survey(sizes={"train": 20, "validation": 10})
    survey = replace(survey, stamps=survey.stamps.repeat(4, axis=2).repeat(4, axis=3))
    return Space_Galaxi(survey, split="train", augmentation=Augmentation()), Space_Galaxi(survey, split="validation")


@pytest.fixture(scope="module")
def trunk(data: Data, compute: Compute) -> ProgressiveModel:
    train, validation = data
    with named_random_state(0, "initialisation"):
        model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(8, 2, 0.3))
        model.add_block(4, "residual")
        model.add_block(4)
    model.fit_normalisers(train.stamps, train.features)
    fit(
        model,
        train,
        validation,
        epochs=1,
        optimiser=OPTIMISER,
        compute=compute,
        seed=1,
        on_epoch=lambda _epoch: None,
        on_batch=lambda _samples: None,
    )
    return model


def grown(trunk: ProgressiveModel, k: int) -> ProgressiveModel:
    model = copy.deepcopy(trunk)
    with named_random_state(k, "initialisation"):
        model.add_block(k)
    return model


def new_training(
    model: ProgressiveModel, data: Data, compute: Compute, trains: Trains, seed: int = 5, average: float = 0.0
) -> Training:
    return Training(
        model,
        epochs=EPOCHS,
        labels=data[0].labels,
        optimiser=OPTIMISER,
        compute=compute,
        seed=seed,
        frozen_depth=len(model.trunk) - 1 if trains == "block" else 0,
        average=average,
    )


def advance(trainings: Sequence[Training], data: Data, epochs: int, seed: int = 9) -> None:
    for _ in range(epochs):
        list(run_epoch(trainings, *data, batch_size=OPTIMISER.batch_size, seed=seed))


def bits(training: Training) -> tuple[bytes, bytes, list[Epoch]]:
    return pack_model(training.model), save(training.optimiser_state()), training.history


def state(model: ProgressiveModel, prefix: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(prefix)}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("trains", ["all", "block"])
@pytest.mark.parametrize("kind", ["conv", "separable", "inception"])
def test_a_training_put_down_after_any_epoch_and_taken_up_ends_with_the_same_bits(
    trunk: ProgressiveModel, data: Data, compute: Compute, trains: Trains, kind: str
) -> None:
    start = copy.deepcopy(trunk)
    start.add_block(5, kind)
    through = new_training(copy.deepcopy(start), data, compute, trains)
    advance([through], data, EPOCHS)
    for stop in range(EPOCHS + 1):
        first = new_training(copy.deepcopy(start), data, compute, trains)
        advance([first], data, stop)
        network, state, history = bits(first)
        torch.rand(7)
        second = new_training(unpack_model(network), data, compute, trains)
        if stop:
            second.resume(history, load(state))
        advance([second], data, EPOCHS - stop)
        assert bits(second) == bits(through)


@pytest.mark.parametrize("trains", ["all", "block"])
def test_on_large_maps_too_trainings_alone_together_or_put_down_end_the_same(
    large_data: Data, compute: Compute, trains: Trains
) -> None:
    train, _ = large_data
    models = []
    for k in (48, 110):
        with named_random_state(0, "initialisation"):
            model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(8, 2, 0.3))
            model.add_block(48)
        with named_random_state(k, "initialisation"):
            model.add_block(k)
        models.append(model)
    alone = [new_training(copy.deepcopy(model), large_data, compute, trains, seed=3) for model in models]
    for training in alone:
        advance([training], large_data, 2)
    resumed = []
    for model in models:
        first = new_training(copy.deepcopy(model), large_data, compute, trains, seed=3)
        advance([first], large_data, 1)
        network, state, history = bits(first)
        second = new_training(unpack_model(network), large_data, compute, trains, seed=3)
        second.resume(history, load(state))
        advance([second], large_data, 1)
        resumed.append(bits(second))
    assert [bits(training) for training in alone] == resumed
    if trains == "block":
        together = [new_training(copy.deepcopy(model), large_data, compute, trains, seed=3) for model in models]
        advance(together, large_data, 2)
        assert [bits(training) for training in together] == resumed


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_training_suspended_after_every_epoch_ends_with_the_same_bits(
    trunk: ProgressiveModel, data: Data, compute: Compute, average: float
) -> None:
    through = new_training(grown(trunk, 6), data, compute, "all", average=average)
    advance([through], data, EPOCHS)
    training = new_training(grown(trunk, 6), data, compute, "all", average=average)
    for _ in range(EPOCHS):
        advance([training], data, 1)
        network, state, history = bits(training)
        training = new_training(unpack_model(network), data, compute, "all", average=average)
        training.resume(history, load(state))
    assert bits(training) == bits(through)
    assert pack_model(training.learned) == pack_model(through.learned)
    assert (pack_model(training.learned) == pack_model(training.model)) == (not average)


def test_the_state_are_part_of_what_the_next_epoch_depends_on(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    through, forgetful = (new_training(grown(trunk, 6), data, compute, "all") for _ in range(2))
    advance([through], data, 1)
    advance([forgetful], data, 1)
    state = forgetful.optimiser_state()
    forgetful.resume(forgetful.history, {name: torch.zeros_like(tensor) for name, tensor in state.items()})
    advance([through], data, 1)
    advance([forgetful], data, 1)
    assert bits(through)[0] != bits(forgetful)[0]


def test_taking_up_a_training_leaves_the_bytes_that_it_came_from_alone(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    first = new_training(grown(trunk, 6), data, compute, "all")
    advance([first], data, 1)
    state = {name: tensor.clone() for name, tensor in first.optimiser_state().items()}
    before = {name: tensor.clone() for name, tensor in state.items()}
    second = new_training(unpack_model(pack_model(first.model)), data, compute, "all")
    second.resume(first.history, state)
    history = list(first.history)
    advance([second], data, 1)
    assert equal(state, before)
    assert first.history == history


@pytest.mark.parametrize(
    "broken",
    [
        lambda _state: {},
        lambda state: {name: tensor for name, tensor in state.items() if name != "exp_avg_sq.1"},
        lambda state: {**state, "exp_avg.0": torch.zeros(2, 2)},
        lambda state: {**state, "average.head.project.weight": torch.zeros(2, 2)},
        lambda state: {name: tensor for name, tensor in state.items() if not name.startswith("average")},
    ],
)
def test_state_of_another_network_are_refused_in_one_line(
    trunk: ProgressiveModel, data: Data, compute: Compute, broken: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    training = new_training(grown(trunk, 6), data, compute, "all", average=0.9)
    advance([training], data, 1)
    other = new_training(grown(trunk, 6), data, compute, "all", average=0.9)
    with pytest.raises(ModelError, match=r"^the state of the training does not fit the network") as caught:
        other.resume(training.history, broken(training.optimiser_state()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [2, 4])
def test_trainings_on_one_frozen_trunk_end_with_the_bits_that_each_has_alone(
    trunk: ProgressiveModel, data: Data, compute: Compute, number: int
) -> None:
    ks = [3, 8, 1, 5][:number]
    together = [new_training(grown(trunk, k), data, compute, "block", seed=k) for k in ks]
    advance(together, data, 2)
    for training, k in zip(together, ks, strict=True):
        alone = new_training(grown(trunk, k), data, compute, "block", seed=k)
        advance([alone], data, 2)
        assert bits(training) == bits(alone)


def test_the_samples_learned_from_are_told_after_each_batch_of_each_training(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    together = [new_training(grown(trunk, k), data, compute, "block") for k in (3, 8)]
    told = list(run_epoch(together, *data, batch_size=16, seed=1))
    assert told == [14, 14, 13, 13, 13, 13]


def test_a_frozen_trunk_keeps_its_weights_and_its_statistics(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    training = new_training(grown(trunk, 6), data, compute, "block")
    before = [state(training.model, f"trunk.{number}.") for number in range(3)]
    head, projector = state(training.model, "head."), state(training.model, "projector.")
    advance([training], data, EPOCHS)
    after = [state(training.model, f"trunk.{number}.") for number in range(3)]
    assert any(name.endswith("running_mean") for name in before[0])
    assert equal(before[0], after[0])
    assert equal(before[1], after[1])
    changed = [name for name, tensor in after[2].items() if not torch.equal(tensor, before[2][name])]
    assert {name.removeprefix("trunk.2.") for name in changed} == {
        "conv.weight",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }
    assert not any(torch.equal(tensor, head[name]) for name, tensor in state(training.model, "head.").items())
    learned = state(training.model, "projector.")
    assert not any(torch.equal(tensor, projector[name]) for name, tensor in learned.items())


def test_training_everything_changes_every_weight_of_the_trunk(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    training = new_training(grown(trunk, 6), data, compute, "all")
    before = state(training.model, "trunk.")
    advance([training], data, 1)
    assert not any(torch.equal(tensor, before[name]) for name, tensor in state(training.model, "trunk.").items())


def test_the_first_block_learns_where_only_the_new_block_does(data: Data, compute: Compute) -> None:
    train, _ = data
    trained = []
    for trains in ("all", "block"):
        with named_random_state(0, "initialisation"):
            model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(8, 2, 0.3))
            model.add_block(4)
        training = new_training(model, data, compute, trains)
        advance([training], data, 2)
        trained.append(bits(training))
    assert trained[0] == trained[1]


def test_the_score_of_an_epoch_is_that_of_its_weights_in_eval_mode(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    together = [new_training(grown(trunk, k), data, compute, "block") for k in (3, 8)]
    for _ in range(2):
        advance(together, data, 1)
        for training in together:
            assert score(unpack_model(pack_model(training.model)), data[1], compute) == training.history[-1].validation


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_seed_of_a_training_decides_its_dropout_and_nothing_else(
    data: Data, compute: Compute, dropout: float
) -> None:
    train, _ = data
    with named_random_state(0, "initialisation"):
        model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(8, 2, dropout))
        model.add_block(4)
    first, second = (new_training(copy.deepcopy(model), data, compute, "all", seed=seed) for seed in (5, 6))
    advance([first], data, 1)
    advance([second], data, 1)
    assert (bits(first) == bits(second)) == (dropout == 0)


def test_every_batch_of_every_epoch_drops_channels_of_its_own(
    trunk: ProgressiveModel, data: Data, compute: Compute
) -> None:
    training = new_training(grown(trunk, 6), data, compute, "all")
    dropped: list[bytes] = []
    dropout = training.model.get_submodule(f"trunk.{len(training.model.trunk) - 1}.dropout")
    dropout.register_forward_pre_hook(lambda _dropout, inputs: torch.ones_like(inputs[0]))
    dropout.register_forward_hook(
        lambda module, _inputs, kept: dropped.append(kept.numpy(force=True).tobytes()) if module.training else None
    )
    advance([training], data, 2)
    assert len(dropped) == 6
    assert len(set(dropped)) == 6


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = torch.tensor([0] * 50 + [1] * 7 + [2] * 43)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    found = balanced_weights(labels, 3)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    # Over all samples the weights have the mean 1.
    assert found[labels].mean().item() == pytest.approx(1, rel=1e-6)


def test_a_class_without_a_sample_weighs_nothing_and_changes_no_others_weight() -> None:
    labels = torch.tensor([0, 0, 0, 2])
    assert balanced_weights(labels, 4).tolist() == pytest.approx([4 / 6, 0, 4 / 2, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_the_loss_is_the_one_worked_out_by_hand(
    draw_survey: Callable[..., PreparedSurvey], compute: Compute, class_weights: Any, smoothing: float
) -> None:
    survey = draw_survey(sizes={"train": 40, "validation": 20})
    train = Space_Galaxi(survey, split="train")
    # One class is rare.
    train = train.subset((train.labels != 1).numpy() | (np.arange(len(train)) < 8))
    counts = torch.bincount(train.labels).tolist()
    assert counts[1] < min(counts[0], counts[2])
    with named_random_state(0, "initialisation"):
        model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(8, 2, 0.0))
    before = copy.deepcopy(model)
    training = Training(
        model,
        epochs=1,
        labels=train.labels,
        optimiser=Optimiser(batch_size=64, label_smoothing=smoothing, class_weights=class_weights),
        compute=compute,
        seed=5,
    )
    list(run_pass([training], train, batch_size=64, seed=1))
    log_p = before(torch.from_numpy(train.stamps), train.features).detach().double().log_softmax(dim=1)
    weights = [len(train) / (3 * count) if class_weights == "balanced" else 1.0 for count in counts]
    total = sum_of_weights = 0.0
    for row, label in zip(log_p.tolist(), train.labels.tolist(), strict=True):
        target = [smoothing / 3 + (1 - smoothing) * (number == label) for number in range(3)]
        total -= sum(weight * share * value for weight, share, value in zip(weights, target, row, strict=True))
        sum_of_weights += weights[label]
    assert training.end_pass(len(train)) == pytest.approx(total / sum_of_weights, rel=1e-5)


def test_a_rare_class_is_found_more_often_when_the_classes_are_balanced(
    draw_survey: Callable[..., PreparedSurvey], compute: Compute
) -> None:
    survey = draw_survey(sizes={"train": 120, "validation": 60}, features=())
    train, validation = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="validation")
    train = train.subset((train.labels != 1).numpy() | (np.arange(len(train)) < 12))
    answers = []
    for class_weights in ("none", "balanced"):
        with named_random_state(0, "initialisation"):
            model = ProgressiveModel(train.stamp_shape, (), train.classes, Configuration(8, 2, 0.0))
        model.fit_normalisers(train.stamps, train.features)
        optimiser = Optimiser(16, 0.01, class_weights=class_weights)
        fit_without_validation(
            model,
            train,
            epochs=4,
            optimiser=optimiser,
            compute=compute,
            seed=1,
            on_epoch=lambda _epoch, _loss: None,
            on_batch=lambda _samples: None,
        )
        answers.append(int((predict(model, validation, compute).argmax(dim=1) == 1).sum()))
    assert answers[1] > answers[0]
