import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import Ensemble
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute
from spacewarps.training.final import Part, answers_held_out, learn
from spacewarps.training.prediction import predict, predict_answers, score
from spacewarps.training.settings import Optimiser
from spacewarps.training.untrained import new_network


def small_network(data: Space_Galaxi, seed: int = 0) -> ProgressiveModel:
    return new_network(data, [BlockSpec(4)], Configuration(8, 2, 0.2), seed)


@pytest.fixture
def learned(train_data: Space_Galaxi, compute: Compute) -> Callable[..., Any]:
    def learned(part: Part, **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "epochs": 2,
            "average": 0.0,
            "optimiser": Optimiser(16, 0.01),
            "compute": compute,
            "seed": 3,
            "on_epoch": lambda *_told: None,
            "on_batch": lambda _samples: None,
        }
        return learn(small_network(train_data), part, **(settings | changes))

    return learned


def test_the_best_epoch_is_kept_or_the_last_where_nothing_is_held_out(
    learned: Callable[..., Any], train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute
) -> None:
    options: dict[str, Any] = {"epochs": 4, "optimiser": Optimiser(16, 0.1)}
    for seed in range(20):
        best = learned(Part(train_data, validation_data), seed=seed, **options)
        if best.best != best.history[-1]:
            break
    told: list[tuple[Any, ...]] = []
    last = learned(Part(train_data, None), seed=seed, on_epoch=lambda *epoch: told.append(epoch), **options)
    assert last.losses == best.losses
    assert score(best.network, validation_data, compute) == best.best.validation
    assert score(last.network, validation_data, compute) == best.history[-1].validation != best.best.validation
    assert told == [(number, loss, None) for number, loss in enumerate(last.losses, start=1)]
    assert last.history == []


def test_a_training_that_diverged_is_said_in_one_line(
    learned: Callable[..., Any], train_data: Space_Galaxi, validation_data: Space_Galaxi
) -> None:
    with pytest.raises(ModelError, match=r"^the training diverged; lower `learning_rate`$"):
        learned(Part(train_data, None), optimiser=Optimiser(16, 1e38))
    with pytest.raises(ModelError, match=r"^the training diverged in every epoch; lower `learning_rate`$"):
        learned(Part(train_data, validation_data), optimiser=Optimiser(16, 1e38))


def test_each_network_answers_on_what_was_held_out_from_it(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, test_data: Space_Galaxi, compute: Compute
) -> None:
    networks = [small_network(train_data, seed) for seed in range(2)]
    held_out = answers_held_out(networks, [validation_data, test_data], compute, 8)
    assert held_out.logits.shape == (8, 60, 3)
    assert torch.equal(held_out.labels, torch.cat([validation_data.labels, test_data.labels]))
    assert torch.equal(held_out.logits[:, :30], predict_answers(Ensemble([networks[0]], 8), validation_data, compute))
    one = answers_held_out(networks[:1], [validation_data], compute, 1)
    # To the bit: the score of a network alone is that of its best epoch.
    assert one.score(1.0) == score(networks[0], validation_data, compute)
    eight = answers_held_out(networks[:1], [validation_data], compute, 8).score(1.7)
    found = score(Ensemble(networks[:1], 8, 1.7), validation_data, compute)
    assert found.accuracy == eight.accuracy
    assert found.loss == pytest.approx(eight.loss, rel=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_ensemble_predicts_the_mean_of_its_members(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute, precision: torch.dtype
) -> None:
    settings = Compute(compute.device, precision, compute.threads)
    networks = [small_network(train_data, seed) for seed in range(3)]
    expected = torch.stack([predict(one, validation_data, settings).double().softmax(dim=1) for one in networks])
    found = predict(Ensemble(copy.deepcopy(networks)), validation_data, settings)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double().exp(), expected.mean(dim=0), rtol=0, atol=1e-6)
    assert torch.equal(predict(Ensemble(networks), validation_data, settings), found)


def test_predictions_of_an_ensemble_do_not_depend_on_how_a_stamp_is_turned(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute
) -> None:
    ensemble = Ensemble([small_network(train_data, seed) for seed in range(2)], 8)
    turned = copy.copy(validation_data)
    turned.packed = validation_data.packed[..., ::-1].swapaxes(2, 3).copy()
    one, other = (predict(ensemble, data, compute).exp() for data in (validation_data, turned))
    assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_an_ensemble_for_other_data_is_refused(
    train_data: Space_Galaxi, draw_survey: Callable[..., PreparedSurvey], compute: Compute
) -> None:
    other = Space_Galaxi(draw_survey(features=()), split="validation")
    ensemble = Ensemble([small_network(train_data)], 8)
    for ask in (predict, predict_answers, score):
        with pytest.raises(ModelError, match="was made for features z, z_err, but the survey has none; search again"):
            ask(ensemble, other, compute)
