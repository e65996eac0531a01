"""The data of a search: for each fold, what candidates learn from and what they are scored on."""

import json
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.survey.split import class_of_sources, fold_of_sources


class Fold(NamedTuple):
    """What a candidate learns from, with its augmentation, and what it is then scored on."""

    train: Space_Galaxi
    validation: Space_Galaxi

    def fingerprint(self) -> str:
        """Return a hash of all that candidates learn from and are scored on, augmentation included."""
        strengths = None if self.train.augmentation is None else asdict(self.train.augmentation)
        return f"{self.train.fingerprint()} {self.validation.fingerprint()} {json.dumps(strengths)}"


def deal_folds(survey: PreparedSurvey, folds: int, augmentation: Augmentation | None, seed: int) -> list[Fold]:
    """Return the folds of a survey; its test split is in none.

    One fold is the survey's own training and validation split. For more, the sources of both are dealt into as many
    parts, alike in their classes: each part is what one fold scores on, and the others are what it learns from.

    Args:
        survey: has the splits ``train`` and ``validation``.
        folds: how many.
        augmentation: of what candidates learn from.
        seed: decides which source is dealt to which part.

    Raises:
        SurveyError: a class has fewer sources than there are folds.
    """
    if folds == 1:
        train = Space_Galaxi(survey, split="train", augmentation=augmentation)
        return [Fold(train, Space_Galaxi(survey, split="validation"))]
    both = Space_Galaxi(survey, split=("train", "validation"))
    sources = both.samples["source"].tolist()
    dealt = fold_of_sources(class_of_sources(sources, both.samples["label"].tolist()), folds, seed)
    part = np.array([dealt[source] for source in sources])
    return [Fold(both.subset(part != fold, augmentation), both.subset(part == fold)) for fold in range(folds)]
