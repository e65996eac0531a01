import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spacewarps.errors import ModelError, ParamsError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Batch, BatchIndices, Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.fit import fit, fit_without_validation
from spacewarps.training.prediction import predict, score
from spacewarps.training.schedule import one_cycle
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import Optimiser

OPTIMISER = Optimiser(batch_size=16, learning_rate=0.01)


@pytest.fixture
def model(train_data: Space_Galaxi) -> ProgressiveModel:
    with named_random_state(0, "initialisation"):
        model = ProgressiveModel(
            train_data.stamp_shape, train_data.feature_names, train_data.classes, Configuration(8, 2, 0.2)
        )
        model.add_block(4)
    model.fit_normalisers(train_data.stamps, train_data.features)
    return model


@pytest.fixture
def learn(train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute) -> Callable[..., list[Epoch]]:
    def learn(model: ProgressiveModel, **changes: Any) -> list[Epoch]:
        settings: dict[str, Any] = {
            "train": train_data,
            "validation": validation_data,
            "epochs": 2,
            "optimiser": OPTIMISER,
            "compute": compute,
            "seed": 5,
            "on_epoch": lambda _epoch: None,
            "on_batch": lambda _samples: None,
        }
        settings |= changes
        return fit(model, settings.pop("train"), settings.pop("validation"), **settings)

    return learn


@pytest.fixture
def learn_to_the_end(train_data: Space_Galaxi, compute: Compute) -> Callable[..., list[float]]:
    def learn(model: ProgressiveModel, **changes: Any) -> list[float]:
        settings: dict[str, Any] = {
            "epochs": 2,
            "optimiser": OPTIMISER,
            "compute": compute,
            "seed": 5,
            "on_epoch": lambda _epoch, _loss: None,
            "on_batch": lambda _samples: None,
        }
        return fit_without_validation(model, train_data, **(settings | changes))

    return learn


def same_weights(one: ProgressiveModel, other: ProgressiveModel) -> bool:
    states = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in states)


def test_the_arguments_alone_decide_every_bit(model: ProgressiveModel, learn: Callable[..., list[Epoch]]) -> None:
    again, other = copy.deepcopy(model), copy.deepcopy(model)
    history = learn(model)
    learn(other, seed=6)
    torch.manual_seed(99)
    torch.rand(1000)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not matter
    assert learn(again) == history
    assert same_weights(model, again)
    assert not same_weights(model, other)


def test_memory_that_was_not_written_is_not_read(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = copy.deepcopy(model)
    history = learn(model)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    assert torch.isnan(torch.empty(3)).all()
    assert learn(again) == history
    assert same_weights(model, again)


def test_the_global_random_state_stays(model: ProgressiveModel, learn: Callable[..., list[Epoch]]) -> None:
    before = torch.get_rng_state()
    learn(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_stay_as_they_are(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], train_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    def contents() -> list[torch.Tensor]:
        parts = (train_data, validation_data)
        return [t.clone() for p in parts for t in (torch.from_numpy(p.stamps), p.labels, p.features)]

    before, augmentation = contents(), train_data.augmentation
    learn(model)
    assert all(torch.equal(a, b) for a, b in zip(before, contents(), strict=True))
    assert train_data.augmentation == augmentation


def test_normalisers_do_not_learn(model: ProgressiveModel, learn: Callable[..., list[Epoch]]) -> None:
    before = copy.deepcopy(model)
    learn(model)
    for part in ("stamp_normaliser", "feature_normaliser"):
        states = zip(getattr(model, part).buffers(), getattr(before, part).buffers(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)
    for name in ("trunk.0.conv.weight", "projector.0.weight"):
        assert not torch.equal(model.get_parameter(name), before.get_parameter(name))


def test_it_learns(model: ProgressiveModel, learn: Callable[..., list[Epoch]], train_data: Space_Galaxi) -> None:
    history = learn(model, train=train_data.without_augmentation(), epochs=16)
    losses = [epoch.train_loss for epoch in history]
    assert [epoch.epoch for epoch in history] == list(range(1, 17))
    assert losses[-1] < 0.6 * losses[0]
    assert history[-1].validation.accuracy > 0.8


@pytest.mark.parametrize("last_is_best", [False, True])
def test_the_weights_of_the_best_epoch_are_kept(
    model: ProgressiveModel,
    learn: Callable[..., list[Epoch]],
    validation_data: Space_Galaxi,
    compute: Compute,
    last_is_best: bool,
) -> None:
    for seed in range(20):
        trained = copy.deepcopy(model)
        history = learn(trained, seed=seed, epochs=4, optimiser=Optimiser(16, learning_rate=0.1))
        scores = [epoch.validation for epoch in history]
        top = min(scores, key=lambda one: (-one.accuracy, one.loss))
        if (top == scores[-1]) == last_is_best:
            break
    else:
        pytest.fail(f"the last epoch was {'never' if last_is_best else 'always'} the best")
    assert score(trained, validation_data, compute) == top


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_of_the_weights_is_that_of_a_plain_loop(
    model: ProgressiveModel, learn_to_the_end: Callable[..., list[float]], decay: float
) -> None:
    states: list[dict[str, torch.Tensor]] = []
    averaged = copy.deepcopy(model)
    learn_to_the_end(averaged, average=decay)
    learn_to_the_end(model, on_batch=lambda _samples: states.append(copy.deepcopy(model.state_dict())))
    assert len(states) == 8
    for name, found in averaged.state_dict().items():
        if not found.is_floating_point():
            assert torch.equal(found, states[-1][name])
            continue
        expected = states[0][name].double()
        for state in states[1:]:
            expected = decay * expected + (1 - decay) * state[name].double()
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-7), name
    assert not torch.equal(averaged.state_dict()["trunk.0.norm.running_var"], states[-1]["trunk.0.norm.running_var"])


def test_the_average_is_what_is_scored_and_kept_and_changes_nothing_of_the_training(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], validation_data: Space_Galaxi, compute: Compute
) -> None:
    averaged = copy.deepcopy(model)
    plain = learn(model, epochs=4)
    history = learn(averaged, epochs=4, average=0.9)
    assert [epoch.train_loss for epoch in history] == [epoch.train_loss for epoch in plain]
    assert [epoch.validation for epoch in history] != [epoch.validation for epoch in plain]
    top = min((epoch.validation for epoch in history), key=lambda one: (-one.accuracy, one.loss))
    assert score(averaged, validation_data, compute) == top


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_without_validation_the_last_weights_are_kept(
    model: ProgressiveModel,
    learn: Callable[..., list[Epoch]],
    learn_to_the_end: Callable[..., list[float]],
    validation_data: Space_Galaxi,
    compute: Compute,
    average: float,
) -> None:
    history = learn(copy.deepcopy(model), epochs=3, average=average)
    told: list[tuple[int, float]] = []
    losses = learn_to_the_end(model, epochs=3, average=average, on_epoch=lambda epoch, loss: told.append((epoch, loss)))
    assert losses == [epoch.train_loss for epoch in history]
    assert told == list(enumerate(losses, start=1))
    assert score(model, validation_data, compute) == history[-1].validation


def test_of_two_scores_the_higher_accuracy_is_better_and_then_the_lower_loss() -> None:
    assert Score(0.9, 5.0).better_than(Score(0.8, 0.1))
    assert Score(0.9, 0.1).better_than(Score(0.9, 0.2))
    assert Score(0.9, 0.1).better_than(Score(0.9, math.inf))
    assert not Score(0.9, 0.1).better_than(Score(0.9, 0.1))
    assert Score(0.8, 9.0).better_than(Score(0.9, math.inf))
    assert not Score(0.9, math.inf).better_than(Score(0.8, 9.0))


@pytest.mark.parametrize("learning_rate", [1e4, 1e38])
def test_training_that_diverges_ends_with_infinite_losses(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], learning_rate: float
) -> None:
    history = learn(model, optimiser=Optimiser(16, learning_rate=learning_rate))
    for epoch in history:
        assert not math.isnan(epoch.train_loss)
        assert not math.isnan(epoch.validation.loss)
        assert 0 <= epoch.validation.accuracy <= 1
    if learning_rate == 1e38:
        assert history[-1].validation.loss == math.inf


class Watched(Space_Galaxi):
    fetched: list[list[int]]

    def batch(self, indices: BatchIndices) -> Batch:
        self.fetched.append(list(indices))
        return super().batch(indices)


def test_every_epoch_visits_every_sample_once_in_an_order_of_its_own(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], prepared: PreparedSurvey
) -> None:
    train = Watched(prepared, split="train")
    train.fetched = []
    sizes: list[int] = []
    epochs: list[tuple[int, int]] = []
    learn(
        model,
        train=train,
        epochs=3,
        on_batch=sizes.append,
        on_epoch=lambda epoch: epochs.append((epoch.epoch, len(sizes))),
    )
    a_epoch = -(-len(train) // OPTIMISER.batch_size)
    orders = [[i for batch in train.fetched[n * a_epoch : (n + 1) * a_epoch] for i in batch] for n in range(3)]
    assert len(train.fetched) == 3 * a_epoch
    assert all(sorted(order) == list(range(len(train))) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert sizes == [len(batch) for batch in train.fetched]
    assert max(sizes) <= OPTIMISER.batch_size
    assert epochs == [(1, a_epoch), (2, 2 * a_epoch), (3, 3 * a_epoch)]


def test_the_training_samples_are_augmented_and_scored_samples_are_not(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], train_data: Space_Galaxi, compute: Compute
) -> None:
    plain = copy.deepcopy(model)
    assert torch.equal(predict(model, train_data, compute), predict(model, train_data.without_augmentation(), compute))
    learn(model)
    learn(plain, train=train_data.without_augmentation())
    assert not same_weights(model, plain)


def test_a_prediction_does_not_depend_on_its_neighbours(
    model: ProgressiveModel, prepared: PreparedSurvey, compute: Compute
) -> None:
    everything = Space_Galaxi(prepared, augmentation=Augmentation())
    logits = predict(model, everything, compute)
    assert logits.shape == (len(everything), 3)
    assert logits.dtype == torch.float32
    item = everything.without_augmentation()[70]
    alone = model(item.images[None], item.features[None]).detach()
    assert torch.allclose(logits[70], alone[0], atol=1e-5)


def test_a_network_that_was_scored_can_still_be_trained(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], validation_data: Space_Galaxi, compute: Compute
) -> None:
    untouched = copy.deepcopy(model)
    score(model, validation_data, compute)
    assert learn(model) == learn(untouched)
    assert same_weights(model, untouched)


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 64), (1, 15), (2, 30), (4, 60), (1, 2)])
def test_any_number_of_steps_will_do(
    model: ProgressiveModel, learn: Callable[..., list[Epoch]], epochs: int, batch_size: int
) -> None:
    before = copy.deepcopy(model)
    assert len(learn(model, epochs=epochs, optimiser=Optimiser(batch_size=batch_size))) == epochs
    assert not torch.equal(model.head.project.weight, before.head.project.weight)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 100])
def test_the_learning_rate_rises_for_a_quarter_and_falls_to_almost_nothing(steps: int) -> None:
    rates = [one_cycle(step, steps) for step in range(steps)]
    top = rates.index(1.0)
    assert top == max(1, round(steps / 4)) - 1
    assert rates == sorted(rates[: top + 1]) + sorted(rates[top + 1 :], reverse=True)
    assert all(0 < rate <= 1 for rate in rates)
    if steps == 100:
        assert rates[0] == pytest.approx(0.04)
        assert rates[-1] < 0.001


def test_one_channel_or_several_with_features_or_none_in_bf16_too(
    draw_survey: Callable[..., PreparedSurvey], learn: Callable[..., list[Epoch]], compute: Compute
) -> None:
    bf16 = Compute(compute.device, torch.bfloat16, compute.threads)
    for channels, features, settings in ((3, (), compute), (3, ("z",), bf16), (1, (), bf16)):
        survey = draw_survey(
            sizes={"train": 20, "validation": 10},
            channels=channels,
            features=features,
            classes=("a", "b"),
            dtype="float32",
        )
        train, validation = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="validation")
        with named_random_state(0, "initialisation"):
            model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, Configuration(4, 2, 0.1))
            model.add_block(2)
        again = copy.deepcopy(model)
        history = learn(model, train=train, validation=validation, compute=settings)
        assert learn(again, train=train, validation=validation, compute=settings) == history
        assert same_weights(model, again)
        best = min((epoch.validation for epoch in history), key=lambda one: (-one.accuracy, one.loss))
        assert score(model, validation, settings) == best


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"classes": ("A", "QSO", "STAR")}, "classes GALAXY, QSO, STAR, but the survey has A, QSO, STAR"),
        ({"features": ("z",)}, "features z, z_err, but the survey has z"),
        ({"features": ()}, "features z, z_err, but the survey has none"),
        ({"channels": 2}, "stamp shape 1, 16, 16, but the survey has 2, 16, 16"),
    ],
)
def test_a_network_made_for_other_data_is_refused(
    model: ProgressiveModel,
    learn: Callable[..., list[Epoch]],
    draw_survey: Callable[..., PreparedSurvey],
    compute: Compute,
    other: dict[str, Any],
    told: str,
) -> None:
    data = Space_Galaxi(draw_survey(**other), split="train")
    with pytest.raises(ModelError, match=f"^the network was made for {told}; search again$"):
        learn(model, train=data)
    with pytest.raises(ModelError, match=f"^the network was made for {told}; search again$"):
        predict(model, data, compute)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"weight_decay": -0.1},
        {"label_smoothing": 1.0},
        {"class_weights": "some"},
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ParamsError, match=name):
        Optimiser(**settings)
