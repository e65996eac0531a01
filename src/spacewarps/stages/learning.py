"""What the stages with a network have in common: the splits that they open, and what they compute with."""

from dataclasses import asdict, replace
from typing import Literal

from spacewarps.errors import SurveyError
from spacewarps.search.folds import Fold, deal_folds
from spacewarps.stages.context import Stage
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.final import Part


def open_splits(stage: Stage, *names: str) -> list[Space_Galaxi]:
    """Return splits of the prepared survey, the training split with its augmentation."""
    survey = load_prepared_survey(stage.prepared)
    augmentation = augmentation_of(stage)
    return [Space_Galaxi(survey, split=name, augmentation=augmentation if name == "train" else None) for name in names]


def open_train_and_validation(stage: Stage) -> Space_Galaxi:
    """Return the training and the validation split of the prepared survey as one, with augmentation."""
    survey = load_prepared_survey(stage.prepared)
    return Space_Galaxi(survey, split=("train", "validation"), augmentation=augmentation_of(stage))


def open_folds(stage: Stage, section: Literal["search", "train"]) -> list[Fold]:
    """Return as many folds of the prepared survey's training and validation split as the params of ``section`` say.

    One is these two as they are.

    Raises:
        SurveyError: they cannot be dealt.
    """
    folds: int = getattr(stage.params, section).folds
    if folds == 1:
        return [Fold(*open_splits(stage, "train", "validation"))]
    try:
        return deal_folds(open_train_and_validation(stage), folds, augmentation_of(stage), stage.params.seed)
    except SurveyError as error:
        raise SurveyError(f"{section}.folds is {folds}: {error}") from None


def parts_to_learn(stage: Stage) -> list[Part]:
    """Return what each network of the final training learns from, and what is held out from it.

    Raises:
        SurveyError: the folds cannot be dealt.
    """
    match stage.params.train.data:
        case "train":
            return [Part(*open_splits(stage, "train", "validation"))]
        case "train_and_validation":
            return [Part(open_train_and_validation(stage), None)]
        case "folds":
            return [Part(*fold) for fold in open_folds(stage, "train")]


def set_up(stage: Stage, threads: int) -> Compute:
    """Set this process up to compute on as many threads, as the stage's params say."""
    return set_up_compute(replace(stage.params.compute, threads=threads))


def augmentation_of(stage: Stage) -> Augmentation:
    """Return the augmentation that the params describe."""
    return Augmentation(**asdict(stage.params.augment))
