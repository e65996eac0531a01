"""What the page and the card are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.evaluation.comparison import MOST_FREQUENT, learned_baselines
from spacewarps.evaluation.coverage import PredictionSets
from spacewarps.evaluation.report import SplitEvaluation, controls_of
from spacewarps.features import are_errors
from spacewarps.model.ensemble import Network
from spacewarps.model.settings import BlockSpec, block_label
from spacewarps.report.intervals import Share, along, light, reliability, share_of, wilson
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.writing import in_percent

#: Standard errors, either way, that hold 95% of a normal distribution.
NORMAL_95 = 1.96
# Of more features than these no plot is drawn; nobody would look at them.
_MOST_FEATURES = 8


@dataclass(frozen=True)
class Origins:
    """What a result can be had from again; nothing that another run of the same would not have.

    Attributes:
        params: what was set, by its name.
        hashes: of data, network and code, by what they are of.
        versions: of the packages that compute, by their names.
        command: what repeats the result.
    """

    params: Mapping[str, str]
    hashes: Mapping[str, str]
    versions: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class Facts:
    """One result, as the stages have written it.

    Attributes:
        evaluation: what the test split said.
        test: its samples.
        network: what was tested.
        search: what ``reports/search.json`` holds.
        training: what ``reports/training.json`` holds.
        curves: the final training's epochs.
        scored_on: how many samples candidates were scored on, and of how many sources these are.
        held_out: the same of what was held out from the final training.
        sets: the prediction sets of the test split, if there are any.
        audit: what ``audit.json`` holds, if the survey has one.
        doubted: what ``doubted_labels.csv`` holds.
        origins: where it all came from.
    """

    evaluation: SplitEvaluation
    test: Space_Galaxi
    network: Network
    search: Mapping[str, Any]
    training: Mapping[str, Any]
    curves: pd.DataFrame = field(repr=False)
    scored_on: tuple[int, int]
    held_out: tuple[int, int]
    sets: PredictionSets | None
    audit: Mapping[str, Any] | None
    doubted: pd.DataFrame = field(repr=False)
    origins: Origins

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` says of the test split."""
        found: dict[str, Any] = self.evaluation.metrics["test"]
        return found

    @property
    def metrics_of_all(self) -> dict[str, Any]:
        """What ``metrics.json`` holds."""
        return self.evaluation.metrics

    @property
    def learned(self) -> dict[str, dict[str, Any]]:
        """What it says, by name, of each classifier that learned from the same samples."""
        return learned_baselines(self.evaluation.metrics)

    def compared(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what each classifier is called, and what it came to: the network first, then each baseline."""
        others = self.metrics_of_all["baseline"].values()
        return [("the network", self.metrics), *((str(found["classifier"]), found) for found in others)]

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.evaluation.classes

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return float(self.metrics["confidence"])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The number of the class that each sample was taken for."""
        found: NDArray[np.int64] = self.evaluation.probabilities.argmax(axis=1)
        return found

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each sample was classified right."""
        found: NDArray[np.bool_] = self.predicted == self.evaluation.labels
        return found

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """The number of each sample's source."""
        _, numbers = np.unique(self.test.samples["source"].to_numpy(dtype=str), return_inverse=True)
        return numbers

    def classes_in_words(self) -> str:
        """Return the names of a few classes, or the number of many."""
        if len(self.classes) > 6:
            return f"{len(self.classes)} classes"
        return f"{', '.join(self.classes[:-1])} and {self.classes[-1]}"

    def answer(self) -> str:
        """Return the result in one sentence."""
        test = self.metrics
        told = (
            f"The network tells {self.classes_in_words()} apart with an accuracy of {test['accuracy']:.1%} "
            f"({in_percent(self.confidence)} interval {test['accuracy_low']:.1%} to {test['accuracy_high']:.1%}) on "
            f"{test['samples']} samples of {test['sources']} sources that it has not seen"
        )
        # Of its own architecture nobody asks which of the two is better.
        others = [found for name, found in self.learned.items() if name != "found_anew"]
        if not others:
            frequent = self.metrics_of_all["baseline"][MOST_FREQUENT]["accuracy"]
            return f"{told}; always answering the most frequent class would be right for {frequent:.1%}."
        best = max(others, key=lambda found: float(found["accuracy"]))
        points = [100 * best["gain"][name] for name in ("accuracy", "accuracy_low", "accuracy_high")]
        comma = "," if len(others) > 1 else ""
        beside = best["classifier"] + (f", the best of {len(others)} others" if len(others) > 1 else "")
        if points[1] > 0:
            return f"{told}, {points[0]:.1f} points better than {beside} (interval {points[1]:.1f} to {points[2]:.1f})."
        if points[2] < 0:
            return f"{told}, {-points[0]:.1f} points worse than {beside} ({-points[2]:.1f} to {-points[1]:.1f})."
        return (
            f"{told}; within noise, {beside}{comma} does as well (difference {points[0]:+.1f} points, "
            f"interval {points[1]:+.1f} to {points[2]:+.1f})."
        )

    def classifiers(self) -> list[Share]:
        """Return the accuracy of the network, then of each baseline."""
        samples, sources = int(self.metrics["samples"]), int(self.metrics["sources"])
        shares = []
        for name, found in self.compared():
            interval = (found["accuracy_low"], found["accuracy_high"])
            shares.append(Share(name, found["accuracy"], *interval, samples, sources))
        return shares

    def values_of_candidates(self) -> tuple[str, str, list[tuple[float, float, float]]]:
        """Return what candidates were compared by, what its interval is, and value and interval of each."""
        candidates = self.search["candidates"]
        measure = self.search.get("decides")
        if measure is None:
            samples, sources = self.scored_on
            shown = [float(candidate["val_accuracy"]) for candidate in candidates]
            interval = f"95% interval of the accuracy on {samples} samples of {sources} sources"
            return "validation accuracy", interval, [(each, *wilson(each, sources, 0.95)) for each in shown]
        found = []
        for candidate in candidates:
            value, error = (
                float("nan") if candidate.get(name) is None else float(candidate[name]) for name in ("value", "error")
            )
            found.append((value, value - NORMAL_95 * error, value + NORMAL_95 * error))
        base = "the control" if self.controls() else "the last block that joined"
        interval = f"95% interval (from layer 2 on, of the difference from {base})"
        return str(measure).replace("_", " "), interval, found

    def controls(self) -> dict[int, float]:
        """Return the value of the control of each layer that has one which did not diverge."""
        return controls_of(self.search)

    def reliability(self) -> list[Share]:
        """Return how often answers were right, by their probability."""
        surest = self.evaluation.probabilities.max(axis=1)
        return reliability(self.right, surest, self.sources, self.confidence)

    def recalls(self) -> list[Share]:
        """Return the recall of each class that has a test sample."""
        labels = self.evaluation.labels
        return [
            share_of(name, self.right[own], self.sources[own], self.confidence)
            for number, name in enumerate(self.classes)
            if (own := labels == number).any()
        ]

    def quantities(self) -> dict[str, list[Share]]:
        """Return how the accuracy depends on each feature, and on the stamps' brightness and background."""
        names = self.test.feature_names
        plain = [name for name, is_error in zip(names, are_errors(names), strict=True) if not is_error]
        values = {name: self.test.samples[name].to_numpy(dtype=np.float64) for name in plain[:_MOST_FEATURES]}
        return {
            name: along(column, self.right, self.sources, self.confidence)
            for name, column in [*values.items(), *light(self.test).items()]
        }

    def set_of(self, sample: int) -> Sequence[str] | None:
        """Return the classes that a sample may have, if there are prediction sets."""
        if self.sets is None:
            return None
        return [name for name, inside in zip(self.classes, self.sets.sets[sample], strict=True) if inside]


def label_of(block: Mapping[str, Any]) -> str:
    """Return what people call a block of ``search.json``."""
    return block_label(block["kind"], block["k"], block.get("kernel_size", BlockSpec.kernel_size))


def in_points(difference: float) -> str:
    """Return a difference of shares in percentage points."""
    return f"{100 * difference:+.1f}"
