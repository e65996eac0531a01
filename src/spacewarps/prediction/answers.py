"""The answers of a final network as rows of a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.reference import levels
from spacewarps.prediction.unusual import unusual_in
from spacewarps.survey.samples import as_seen
from spacewarps.training.conformal import prediction_sets

SET_PREFIX = "may_be_"


def answers_of(classifier: Classifier, stamps: NDArray[np.generic], features: pd.DataFrame | None) -> pd.DataFrame:
    """Return the answers of ``classifier``, in float32 on the CPU, as :func:`rows_of` does.

    Args:
        classifier: is asked.
        stamps: ``[N, C, H, W]`` in the survey's units, with the mask if the network takes one.
        features: a column for each feature, NaN or a missing code where there is no value; none if the network has
            none.
    """
    seen = np.empty((len(stamps), 0), np.float32) if features is None else as_seen(_decoded(features, classifier))
    probabilities = classifier.network.predict_proba(stamps, None if features is None else seen)
    return rows_of(classifier, probabilities, seen, levels(stamps[:, : classifier.network.inputs.image_channels]))


def _decoded(features: pd.DataFrame, classifier: Classifier) -> pd.DataFrame:
    codes = classifier.reference.missing_codes
    return pd.DataFrame({name: column.mask(column.isin(codes.get(str(name), ()))) for name, column in features.items()})


def rows_of(
    classifier: Classifier,
    probabilities: NDArray[np.float64],
    features: NDArray[np.float32],
    measured: NDArray[np.float64],
    ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return a row for each sample, with what the network answers and what is unusual about the sample.

    Columns are ``id`` (where there are some), ``class``, the probability ``p_...`` of each class, for each whether it
    is in the prediction set (``may_be_...``, if there are thresholds), and ``unusual``.

    Args:
        classifier: gave the answers.
        probabilities: ``[N, classes]``.
        features: ``[N, F]``.
        measured: the :func:`~spacewarps.prediction.reference.levels` of the stamps, ``[N, 2]``.
        ids: of the samples.
    """
    classes = classifier.network.inputs.classes
    columns: dict[str, Any] = {} if ids is None else {"id": list(ids)}
    columns["class"] = [classes[number] for number in probabilities.argmax(axis=1)]
    columns |= {f"p_{name}": probabilities[:, number] for number, name in enumerate(classes)}
    if classifier.reference.thresholds is not None:
        sets = prediction_sets(probabilities, classifier.reference.thresholds)
        columns |= {f"{SET_PREFIX}{name}": sets[:, number] for number, name in enumerate(classes)}
    columns["unusual"] = unusual_in(features, measured, classifier.reference)
    return pd.DataFrame(columns)
