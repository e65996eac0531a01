"""Gradient boosting on tables of numbers."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from spacewarps.features import are_errors
from spacewarps.survey.dataset import Space_Galaxi

# The last bits of an exponential depend on the processor.
_DECIMALS = 9


def boost(
    known: NDArray[np.float64], labels: NDArray[np.int64], asked: NDArray[np.float64], classes: int, seed: int
) -> NDArray[np.float64]:
    """Return the probability of each class for the rows of ``asked``, ``[N, classes]``, by gradient boosting.

    The numbers are given as they are: trees need neither scaling nor imputation (Ke et al. 2017, LightGBM).

    Args:
        known: what is learned from, ``[M, columns]``; what is not finite is missing.
        labels: the number of each one's class, ``[M]``.
        asked: ``[N, columns]``.
        classes: how many there are.
        seed: decides every draw.
    """
    trees = HistGradientBoostingClassifier(random_state=seed % 2**32, early_stopping=False)
    known, asked = _finite_or_missing(known), _finite_or_missing(asked)
    # scikit-learn finds no thresholds in a column without a single value, and fails.
    empty = np.isnan(known).all(axis=0)
    known[:, empty] = asked[:, empty] = 0.0
    trees.fit(known, labels)
    probabilities = np.zeros((len(asked), classes))
    # A class without a sample to learn from is unknown to the trees.
    probabilities[:, trees.classes_] = trees.predict_proba(asked)
    return probabilities.round(_DECIMALS)


def features_of(data: Space_Galaxi) -> NDArray[np.float64]:
    """Return the features of all samples, ``[N, F]``, NaN where there is no value.

    An error that is not positive is a code of the catalogue and no error, to trees as to networks: codes that differ
    from class to class would give the classes away.
    """
    values: NDArray[np.float64] = data.features.double().numpy()
    return np.where(np.array(are_errors(data.feature_names), dtype=bool) & (values <= 0), np.nan, values)


def _finite_or_missing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)
