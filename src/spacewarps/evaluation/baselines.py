"""What the network has to beat."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from spacewarps.survey.dataset import Space_Galaxi


def most_frequent_class(train: Space_Galaxi, test: Space_Galaxi) -> NDArray[np.int64]:
    """Predict the class that is most frequent in training for every sample of ``test``."""
    counts = np.bincount(train.labels.numpy(), minlength=len(train.classes))
    return np.full(len(test), counts.argmax(), dtype=np.int64)


def features_alone(train: Space_Galaxi, test: Space_Galaxi, seed: int) -> NDArray[np.int64]:
    """Predict from the catalogue's features alone, by gradient boosting.

    The features are given as they are: trees need neither scaling nor imputation (Ke et al. 2017, LightGBM).
    """
    trees = HistGradientBoostingClassifier(random_state=seed % 2**32, early_stopping=False)
    known, asked = _finite_or_missing(train), _finite_or_missing(test)
    # scikit-learn finds no thresholds in a column without a single value, and fails.
    empty = np.isnan(known).all(axis=0)
    known[:, empty] = asked[:, empty] = 0.0
    trees.fit(known, train.labels.numpy())
    predicted: NDArray[np.int64] = trees.predict(asked)
    return predicted


def _finite_or_missing(data: Space_Galaxi) -> NDArray[np.float64]:
    values = data.features.double().numpy()
    return np.where(np.isfinite(values), values, np.nan)
