"""Some samples of a survey, and what a final network answers for them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.reference import levels
from spacewarps.prediction.stamps import stamps_of
from spacewarps.survey.images import StampError
from spacewarps.survey.samples import Samples
from spacewarps.survey.stamps import Whereabouts, decode_stamps
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import predict_probabilities


class Job(NamedTuple):
    """Where the stamps of some samples are, and their features, ``[n, F]``."""

    places: Sequence[Whereabouts]
    features: pd.DataFrame


class Part(NamedTuple):
    """What was found of some samples.

    Args:
        faults: why a stamp could not be decoded, ``[n]``; empty where it could.
        probabilities: of those that could, ``[m, classes]``.
        levels: of their stamps, ``[m, 2]``.
    """

    faults: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    levels: NDArray[np.float64]


def answer_part(classifier: Classifier, job: Job, compute: Compute) -> Part:
    """Decode the stamps of some samples, and ask ``classifier`` about those that can be."""
    stamps = decode_stamps(job.places, stamps_of(classifier), classifier.reference.stamps)
    faults = np.array([str(stamp) if isinstance(stamp, StampError) else "" for stamp in stamps], dtype=np.str_)
    sound = [stamp for stamp in stamps if not isinstance(stamp, StampError)]
    if not sound:
        return Part(faults, np.empty((0, len(classifier.network.inputs.classes))), np.empty((0, 2)))
    packed = np.stack(sound)
    inputs = classifier.network.inputs
    samples = Samples(packed, job.features[faults == ""], mask_channel=inputs.mask_channel)
    measured = levels(packed[:, : inputs.image_channels])
    return Part(faults, predict_probabilities(classifier.network, samples, compute), measured)
