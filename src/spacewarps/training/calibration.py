"""How sure a network should say that it is: one temperature for all of its logits."""

import math

from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from spacewarps.model.ensemble import HIGHEST_TEMPERATURE, LEAST_TEMPERATURE, mean_log_probabilities


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature at which the log loss is lowest (Guo et al. 2017, arXiv:1706.04599).

    It minimises the mean of ``-log p(label)`` over ``log T``, in float64; the same logits give the same temperature.
    A network that learned for long mostly is surer than it is right, and has a temperature above 1.

    Args:
        logits: of samples that the network did not learn from, ``[A, N, classes]``; the probabilities of the ``A``
            answers are averaged.
        labels: of these samples, ``[N]``.
    """

    def loss(log_temperature: float) -> float:
        log_probabilities = mean_log_probabilities(logits, math.exp(log_temperature))
        return float(functional.nll_loss(log_probabilities, labels))

    bounds = (math.log(LEAST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    # The ends are no part of what is searched, but rounding could step over them.
    return min(max(math.exp(found.x), LEAST_TEMPERATURE), HIGHEST_TEMPERATURE)
