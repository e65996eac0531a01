"""The outer folds that are done: a cache of one file for each, from which only what is sound is taken."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from spacewarps.evaluation.crossvalidation import OuterFold
from spacewarps.search.sealed import read_sealed, sweep, write_sealed
from spacewarps.settings import Share
from spacewarps.survey.dataset import Space_Galaxi

_OF_SAMPLES = ["id", "source", "label"]
# Probabilities that a network gives in float64 add up to 1 far better.
_TOLERANCE = 1e-6


class _Content(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    key: str
    seed: int
    fold: int
    architecture: list[str]
    seconds: Annotated[float, Field(ge=0)]
    samples: dict[str, list[str]]
    probabilities: dict[str, list[Share]]


def keep_fold(path: Path, key: str, fold: OuterFold) -> None:
    """Write down a fold whose answers are finite, durably and sealed.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    content = {
        "key": key,
        "seed": fold.seed,
        "fold": fold.fold,
        "architecture": fold.architecture,
        "seconds": fold.seconds,
        "samples": fold.predictions[_OF_SAMPLES].to_dict("list"),
        "probabilities": fold.predictions.drop(columns=_OF_SAMPLES).to_dict("list"),
    }
    write_sealed(path, json.dumps(content, allow_nan=False).encode())


def read_kept_fold(path: Path, key: str, test: Space_Galaxi) -> OuterFold:
    """Return the fold of ``key``, whose answers are on the samples of ``test``.

    Raises:
        OSError: there is none.
        ValueError: it is torn, altered, or that of another fold.
    """
    content = _Content.model_validate_json(read_sealed(path))
    if content.key != key or content.samples != test.samples[_OF_SAMPLES].to_dict("list"):
        raise ValueError("another fold")
    if list(content.probabilities) != [f"p_{name}" for name in test.classes]:
        raise ValueError("of other classes")
    predictions = pd.DataFrame({**content.samples, **content.probabilities})
    if not np.allclose(predictions[[*content.probabilities]].sum(axis=1), 1, rtol=0, atol=_TOLERANCE):
        raise ValueError("probabilities do not add up to 1")
    return OuterFold(content.seed, content.fold, content.architecture, content.seconds, predictions)
