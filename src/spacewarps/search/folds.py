"""The data of a search: for each fold, what candidates learn from and what they are scored on."""

import json
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from spacewarps.errors import SurveyError
from spacewarps.provenance import fingerprint_from_outside
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.split import class_of_sources, fold_of_sources, split_sources


class Fold(NamedTuple):
    """What a candidate learns from, with its augmentation, and what it is then scored on."""

    train: Space_Galaxi
    validation: Space_Galaxi

    def fingerprint(self) -> str:
        """Return a hash of all that candidates learn from and are scored on, augmentation included."""
        one = self.train.augmentation
        augmentation = None if one is None else [asdict(one), fingerprint_from_outside(type(one))]  # type: ignore[arg-type]
        return f"{self.train.fingerprint()} {self.validation.fingerprint()} {json.dumps(augmentation)}"


def deal_folds(data: Space_Galaxi, folds: int, augmentation: Augmentation | None, seed: int) -> list[Fold]:
    """Return folds of ``data``: its sources are dealt into as many parts, alike in their classes.

    Each part is what one fold scores on, and the others are what it learns from. A part may lack a class, as all parts
    together are scored on, and they have every class.

    Args:
        data: the samples.
        folds: how many, at least 2.
        augmentation: of what candidates learn from.
        seed: decides which source is dealt to which part.

    Raises:
        SurveyError: a class has fewer sources than there are folds, or what a fold learns from lacks a class.
    """
    sources, classes = _sources_of(data)
    dealt = fold_of_sources(classes, folds, seed)
    part = np.array([dealt[source] for source in sources])
    found = [Fold(data.subset(part != fold, augmentation), data.subset(part == fold)) for fold in range(folds)]
    for number, fold in enumerate(found, start=1):
        _check_classes(fold.train, data, f"to learn from in fold {number} of {folds}")
    return found


def hold_out(data: Space_Galaxi, share: float, augmentation: Augmentation | None, seed: int) -> Fold:
    """Return one fold of ``data``, which scores on ``share`` of its sources.

    Raises:
        SurveyError: a class has fewer than two sources, or one of the two parts lacks a class.
    """
    sources, classes = _sources_of(data)
    split = split_sources(classes, {"train": 1 - share, "validation": share}, seed)
    held_out = np.array([split[source] == "validation" for source in sources])
    fold = Fold(data.subset(~held_out, augmentation), data.subset(held_out))
    _check_classes(fold.train, data, "to learn from")
    _check_classes(fold.validation, data, "to score on")
    return fold


def _check_classes(part: Space_Galaxi, whole: Space_Galaxi, what_for: str) -> None:
    # Sources are dealt by the class of most of their rows, so a class may have rows in the sources of others alone.
    lost = set(whole.labels.tolist()) - set(part.labels.tolist())
    if lost:
        raise SurveyError(
            f"class {part.classes[min(lost)]!r:.80} has no row {what_for}, as its rows share their sources with more "
            "rows of other classes; add sources of it or leave it out, or set `label_conflicts` to drop"
        )


def _sources_of(data: Space_Galaxi) -> tuple[list[str], dict[str, str]]:
    """Return the source of each sample, and the class of each source."""
    sources: list[str] = data.samples["source"].tolist()
    return sources, class_of_sources(sources, data.samples["label"].tolist())
