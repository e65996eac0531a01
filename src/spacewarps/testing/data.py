"""Small data for the suites, and a search on it that takes a second."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.model.storage import pack_model
from spacewarps.search.candidate import Evaluation
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate
from spacewarps.search.progressive import SearchResult, search_folds
from spacewarps.search.settings import CandidateSettings, SearchSettings
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute, named_random_state, set_up_compute
from spacewarps.training.settings import ComputeSettings, Optimiser

SIDE, CLASSES = 8, ("GALAXY", "QSO", "STAR")
OPTIMISER = Optimiser(batch_size=8, learning_rate=0.01)


def small_folds(count: int = 1) -> list[Fold]:
    """Return ``count`` folds of 24 training samples and 12 to score on; classes differ in brightness."""
    return [_fold(seed) for seed in range(count)]


def small_compute() -> Compute:
    """Set this process up for one thread and float32."""
    return set_up_compute(ComputeSettings("cpu", "fp32", 1))


def small_evaluation(seed: int = 1, *, epochs: int = 2, source: bytes | None = None) -> Evaluation:
    """Return the evaluation of a block of two channels on an empty network, or on the packed ``source``."""
    with named_random_state(seed, "initialisation"):
        empty = ProgressiveModel((1, SIDE, SIDE), ("z",), CLASSES, Configuration(8, 2, 0.1))
    return Evaluation(
        Candidate(1, BlockSpec(2), seed),
        0,
        pack_model(empty) if source is None else source,
        grows="deeper",
        batches=seed,
        settings=CandidateSettings(epochs, optimiser=OPTIMISER),
        compute=small_compute(),
        until=epochs,
    )


def small_search(folds: Sequence[Fold], settings: SearchSettings | None = None, **options: Any) -> SearchResult:
    """Search on ``folds`` for at most two steps, or as ``settings`` say."""
    return search_folds(
        folds,
        settings or SearchSettings(max_layers=2, k_candidates=(2, 3), epochs_per_eval=2),
        configuration=Configuration(8, 2, 0.1),
        optimiser=OPTIMISER,
        compute=small_compute(),
        **options,
    )


def bits(result: SearchResult) -> tuple[object, ...]:
    """Return what two searches have in common that came to the same, to the bit."""
    return (result.history, *map(pack_model, result.models))


def _fold(seed: int) -> Fold:
    rng = np.random.default_rng(seed)
    splits = ["train"] * 24 + ["validation"] * 12
    number = np.arange(len(splits))
    stamps = rng.normal(40 + 40 * (number % 3)[:, None, None, None], 10, (len(splits), 1, SIDE, SIDE))
    samples = pd.DataFrame({"id": number.astype(str), "source": number.astype(str), "split": splits})
    samples["label"] = np.array(CLASSES)[number % 3]
    samples["ra"] = samples["dec"] = 0.0
    samples["z"] = rng.random(len(splits))
    survey = PreparedSurvey(stamps.clip(0, 255).astype(np.uint8), samples, list(CLASSES), ["z"])
    train = Space_Galaxi(survey, split="train", augmentation=Augmentation())
    return Fold(train, Space_Galaxi(survey, split="validation"))
