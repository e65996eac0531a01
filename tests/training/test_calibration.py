import math

import numpy as np
import pytest
import torch

from spacewarps.model.ensemble import mean_log_probabilities
from spacewarps.training.calibration import fit_temperature


def calibrated(samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of three classes, and labels that are drawn with the probabilities that they tell."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, size=(samples, 3))).float()
    uniform = torch.from_numpy(rng.random((samples, 1)))
    labels = (logits.double().softmax(dim=1).cumsum(dim=1) < uniform).sum(dim=1)
    return logits, labels.clamp(max=2)


@pytest.mark.parametrize("surer", [0.4, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_too_sure_is_found(surer: float) -> None:
    logits, labels = calibrated(40_000)
    assert fit_temperature(surer * logits[None], labels) == pytest.approx(surer, rel=0.03)


def test_it_is_where_the_log_loss_is_lowest() -> None:
    logits, labels = calibrated(500, seed=1)
    answers = torch.stack([2.5 * logits, 2.5 * logits + torch.randn(logits.shape)])
    found = fit_temperature(answers, labels)

    def loss(temperature: float) -> float:
        log_p = mean_log_probabilities(answers, temperature)
        return -float(log_p[torch.arange(len(labels)), labels].mean())

    grid = [found * math.exp(step / 100) for step in range(-100, 101)]
    assert loss(found) <= min(map(loss, grid)) + 1e-12
    assert loss(found) < loss(1.0)
    assert fit_temperature(answers, labels) == found


def test_where_every_answer_is_right_or_none_is_it_stays_within_its_range() -> None:
    labels = torch.tensor([0, 1, 2] * 5)
    logits = torch.nn.functional.one_hot(labels).float()[None]
    assert fit_temperature(logits, labels) == pytest.approx(0.1, rel=1e-3)
    assert fit_temperature(-logits, labels) == pytest.approx(10, rel=1e-3)
    for found in (fit_temperature(logits, labels), fit_temperature(-logits, labels)):
        assert 0.1 <= found <= 10


def test_no_temperature_changes_the_answers_of_one_network() -> None:
    logits, labels = calibrated(2000)
    temperature = fit_temperature(3 * logits[None], labels)
    answers = mean_log_probabilities(3 * logits[None], temperature).argmax(dim=1)
    assert torch.equal(answers, logits.argmax(dim=1))
