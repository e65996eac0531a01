"""The cross-entropy of single samples, which paired comparisons need."""

import numpy as np
from numpy.typing import NDArray


def sample_losses(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each sample in nats, ``[N]``; their mean is the log loss that is reported.

    A probability is kept away from 0 and 1 by the precision of its type, as scikit-learn does: the loss of an answer
    that is said to be impossible would be infinite.

    Args:
        labels: the number of each sample's class, ``[N]``.
        probabilities: ``[N, classes]``.
    """
    least = np.finfo(np.float64).eps
    losses: NDArray[np.float64] = -np.log(probabilities[np.arange(len(labels)), labels].clip(least, 1 - least))
    return losses
