"""A result as the stages write it, of a small network that has learned nothing, with answers of the test's choosing."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from spacewarps.evaluation.comparison import Baseline
from spacewarps.evaluation.coverage import PredictionSets
from spacewarps.evaluation.report import evaluate_predictions
from spacewarps.evaluation.settings import BootstrapSettings
from spacewarps.model.ensemble import Ensemble
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.report.facts import Facts, Origins
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey


def candidate(layer: int, k: int, value: float, *, chosen: bool = False) -> dict[str, Any]:
    block = {"layer": layer, "kind": "conv", "k": k, "kernel_size": 3}
    return block | {"val_accuracy": 1 - value, "chosen": chosen, "value": value, "error": 0.05}


DECISIONS = [
    {"layer": 1, "joins": True, "gain": None, "gain_error": None, "sentence": "step 1: conv k=8 joins: loss 0.3000"},
    {"layer": 2, "joins": False, "gain": 0.01, "gain_error": 0.05, "sentence": "step 2: no block joins"},
]
SEARCH: dict[str, Any] = {
    "final_val_accuracy": 0.7,
    "num_layers": 1,
    "total_trainable_params": 12345,
    "stopped": "no gain",
    "architecture": [candidate(1, 8, 0.3, chosen=True)],
    "candidates": [candidate(1, 4, 0.5), candidate(1, 8, 0.3, chosen=True), candidate(2, 8, 0.29)],
    "decides": "loss",
    "decisions": DECISIONS,
}
TRAINING: dict[str, Any] = {"data": "folds", "networks": 2, "epochs": 3, "val_accuracy": 0.75, "temperature": 1.25}
CURVES = pd.DataFrame(
    {"epoch": [1, 2, 3], "train_loss": [1.0, 0.8, 0.7], "val_loss": [1.0, 0.9, 0.95], "val_accuracy": [0.6, 0.8, 0.7]}
)
AUDIT: dict[str, Any] = {
    "rows_in": 125,
    "rows_kept": 120,
    "left_out": {"no stamp": {"count": 5, "rows": ["one", "two", "three", "four", "five"]}},
    "notes": ["separated by semicolons"],
    "splits": {"train": {"samples": 60, "sources": 30, "classes": {}}},
    "label_conflicts": {"treatment": "keep", "sources": {"a": {"a": "STAR", "b": "QSO"}}},
}
DOUBTED = pd.DataFrame(
    {
        "id": ["c", "d"],
        "source": ["c", "d"],
        "label": ["QSO", "STAR"],
        "suggested": ["GALAXY", "QSO"],
        "p_label": [0.01, 0.2],
        "p_suggested": [0.9, 0.7],
        "source_disagrees": [True, False],
    }
)
ORIGINS = Origins(
    {"seed": "1"},
    {"the code of all that was computed (SHA-256)": 8 * "01234567"},
    {"numpy": "2.0"},
    "dvc repro --force",
)


def facts_of(survey: PreparedSurvey, *, noise: float = 2.5, members: int = 2, **changes: Any) -> Facts:
    """Return the facts of answers that are right up to some noise."""
    train, test = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")
    generator = torch.Generator().manual_seed(0)
    right = torch.nn.functional.one_hot(test.labels, len(test.classes)) * 3.0
    logits = right + noise * torch.randn(right.shape, generator=generator)
    given = logits.double().softmax(dim=1).numpy()
    sets = PredictionSets(given > 0.1, 0.9)
    found: dict[str, Any] = {
        "evaluation": evaluate_predictions(
            given,
            train,
            test,
            settings=BootstrapSettings(200, 0.9),
            seed=1,
            sets=sets,
            baselines=[Baseline("guesses", "a guesser", given.round(1) + 0.01)],
        ),
        "test": test,
        "network": Ensemble([network_for(train, seed) for seed in range(members)], 8, 1.25),
        "search": SEARCH,
        "training": TRAINING,
        "curves": CURVES,
        "scored_on": (30, 15),
        "held_out": (90, 45),
        "sets": sets,
        "audit": AUDIT,
        "doubted": DOUBTED,
        "origins": ORIGINS,
    }
    return Facts(**(found | changes))


def network_for(data: Space_Galaxi, seed: int) -> ProgressiveModel:
    torch.manual_seed(seed)
    model = ProgressiveModel(
        data.stamp_shape, data.feature_names, data.classes, Configuration(8, 4, 0.1), mask_channel=data.mask_channel
    )
    model.add_block(4)
    model.fit_normalisers(data.stamps, data.features)
    return model.eval()


def survey_with_hostile_names(survey: PreparedSurvey) -> PreparedSurvey:
    """Return the survey with ids that no page may take for its own."""
    samples = survey.samples.assign(
        id=[f"<img src=x onerror=alert({number})>\"'\u202e" for number in np.arange(len(survey.samples))]
    )
    return PreparedSurvey(survey.stamps, samples, survey.classes, survey.features)
