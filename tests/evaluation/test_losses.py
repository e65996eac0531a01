import numpy as np
import pytest
from sklearn.metrics import log_loss

from spacewarps.evaluation.losses import sample_losses


def test_the_mean_is_the_log_loss_and_an_impossible_answer_has_a_finite_one() -> None:
    labels = np.array([0, 1, 2, 1])
    probabilities = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.1, 0.2, 0.7]])
    losses = sample_losses(labels, probabilities)
    assert np.isfinite(losses).all()
    assert losses[0] == pytest.approx(np.log(2))
    assert losses.mean() == pytest.approx(log_loss(labels, probabilities, labels=[0, 1, 2]))
