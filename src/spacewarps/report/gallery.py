"""Which stamps are shown: those that say most about what the network can and cannot do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# In each of the galleries, whatever the size of the survey.
_SHOWN = 12


@dataclass(frozen=True)
class Gallery:
    """Stamps that have something in common.

    Attributes:
        name: what they have in common.
        about: how they were chosen.
        samples: their numbers in the test split.
    """

    name: str
    about: str
    samples: list[int]


def galleries(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], sources: NDArray[np.int64]
) -> list[Gallery]:
    """Return what is right and sure, what is wrong and sure, and what is unsure; each source at most once in each.

    Args:
        probabilities: ``[N, classes]``.
        labels: the number of each sample's class, ``[N]``.
        sources: the number of each sample's source, ``[N]``.
    """
    ordered = np.sort(probabilities, axis=1)
    surest, margin = ordered[:, -1], ordered[:, -1] - ordered[:, -2]
    right = probabilities.argmax(axis=1) == labels
    sure = np.argsort(-surest, kind="stable")
    of_classes = _each_class_in_turn(sure[right[sure]], labels)
    wrong = _one_of_each_source(sure[~right[sure]], sources)
    unsure = np.argsort(margin, kind="stable")
    return [
        Gallery(
            "Right and sure",
            "The surest right answers of each class in turn.",
            _one_of_each_source(of_classes, sources),
        ),
        Gallery("Wrong and sure", "Wrong answers, the surest first.", wrong),
        Gallery(
            "Unsure",
            "Answers whose two most probable classes are closest, right or wrong, without those above.",
            _one_of_each_source(unsure[~np.isin(unsure, wrong)], sources),
        ),
    ]


def _each_class_in_turn(ordered: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return samples in a new order: the first of each class, then the second of each."""
    seen = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    turn = np.empty(len(ordered), dtype=np.int64)
    for position, sample in enumerate(ordered):
        turn[position] = seen[labels[sample]]
        seen[labels[sample]] += 1
    return ordered[np.argsort(turn, kind="stable")]


def _one_of_each_source(ordered: NDArray[np.int64], sources: NDArray[np.int64]) -> list[int]:
    """Return the first samples, without those of a source that is among them: its other stamps look the same."""
    _, first = np.unique(sources[ordered], return_index=True)
    return [int(sample) for sample in ordered[np.sort(first)][:_SHOWN]]
