"""An ONNX graph asked beside the network that it was made of: do they answer alike, and how fast is either."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.errors import ModelError
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.onnx_graph import FEATURES, STAMPS
from spacewarps.survey.samples import Samples
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import predict_probabilities

#: By how much a probability may differ.
LARGEST_DIFFERENCE = 1e-5

# The graph holds the maps of all orientations of a batch at once: 200 MB for 32 channels of 75 x 75 pixels.
_BATCH = 32
_DRAWN_SAMPLES = 64
_DRAWN_MISSING = 0.1


@dataclass(frozen=True)
class Comparison:
    """How a graph did beside its network.

    Args:
        samples: how many both were asked for.
        difference: the largest of any probability.
        seconds: of the graph, for all samples.
        seconds_of_torch: of the network, for the same.
    """

    samples: int
    difference: float
    seconds: float
    seconds_of_torch: float


def compare_with_torch(
    content: bytes, classifier: Classifier, samples: Samples, compute: Compute, advance: Callable[[int], None]
) -> Comparison:
    """Ask the graph in ``content`` and the network of ``classifier`` for ``samples``.

    Args:
        content: the file of the graph, which onnxruntime runs on as many threads as ``compute`` has.
        classifier: whose network it was made of.
        samples: at least one.
        compute: where torch computes: float32 on the CPU, to be compared with.
        advance: called with a number of samples that the graph has answered.

    Raises:
        ModelError: a probability differs by more than :data:`LARGEST_DIFFERENCE`, or the samples are others than those
            that the network was made for.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = compute.threads, 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    started = time.perf_counter()
    expected = predict_probabilities(classifier.network, samples, compute)
    between = time.perf_counter()
    found = []
    for batch in _batches(classifier, samples):
        found.append(session.run(None, batch)[0])
        advance(len(found[-1]))
    ended = time.perf_counter()
    difference = _difference(np.concatenate(found), expected)
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"the ONNX graph answers otherwise than torch: a probability differs by {difference:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; nothing was written"
        )
    return Comparison(len(samples), difference, ended - between, between - started)


def draw_samples(classifier: Classifier, seed: int = 0) -> Samples:
    """Return samples within what the network of ``classifier`` learned from, noise as stamps, for want of real ones."""
    reference, generator = classifier.reference, np.random.default_rng(seed)
    shape = (_DRAWN_SAMPLES, *classifier.network.inputs.stamp_shape)
    middle, spread = (sum(ends) / 2 for ends in (reference.brightness, reference.spread))
    stamps = generator.normal(middle, spread, shape)
    if reference.pixels == "uint8":
        stamps = stamps.clip(0, 255)
    if classifier.network.inputs.mask_channel:
        stamps[:, -1] = generator.random(stamps[:, -1].shape) < _DRAWN_MISSING
    features = {}
    for name, known in reference.features.items():
        values = generator.uniform(*(known or (0.0, 1.0)), len(stamps))
        features[name] = np.where(generator.random(len(stamps)) < _DRAWN_MISSING, np.nan, values)
    return Samples(
        stamps.astype(reference.pixels),
        pd.DataFrame(features, index=range(len(stamps))),
        mask_channel=classifier.network.inputs.mask_channel,
    )


def _batches(classifier: Classifier, samples: Samples) -> Iterator[dict[str, NDArray[np.generic]]]:
    has_features = bool(classifier.network.inputs.features)
    for start in range(0, len(samples), _BATCH):
        rows = slice(start, start + _BATCH)
        batch: dict[str, NDArray[np.generic]] = {STAMPS: samples.packed[samples.rows[rows]]}
        yield batch | ({FEATURES: samples.features[rows].numpy()} if has_features else {})


def _difference(found: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    return float(np.abs(found - expected).max())
