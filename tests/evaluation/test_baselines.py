from collections.abc import Callable

import numpy as np
import torch

from spacewarps.evaluation.baselines import features_alone, most_frequent_class
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey

Draw = Callable[..., PreparedSurvey]


def splits(survey: PreparedSurvey) -> tuple[Space_Galaxi, Space_Galaxi]:
    return Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")


def test_the_most_frequent_class_is_that_of_training(draw_survey: Draw) -> None:
    survey = draw_survey()
    of_training = (survey.samples["split"] == "train").to_numpy()
    survey.samples.loc[of_training & (np.arange(len(of_training)) % 3 == 0), "label"] = "STAR"
    survey.samples.loc[~of_training, "label"] = "QSO"
    train, test = splits(survey)
    assert most_frequent_class(train, test).tolist() == [2] * len(test)


def test_trees_tell_classes_apart_by_their_features(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(sizes={"train": 300, "test": 60}))
    right = (features_alone(train, test, seed=1) == test.labels.numpy()).mean()
    assert 0.5 < right < 1


def test_trees_are_the_same_every_time(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(sizes={"train": 100, "test": 60}))
    first = features_alone(train, test, seed=2**62 + 1)
    np.random.seed(3)  # noqa: NPY002 - the global generator is what must not matter
    assert np.array_equal(features_alone(train, test, seed=2**62 + 1), first)


def test_values_that_are_missing_or_infinite_will_do(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(features=("z", "z_err", "flux")))
    for data in (train, test):
        data.features[::3, 0] = torch.nan
        data.features[1::3, 0] = -torch.inf
        data.features[:, 2] = torch.nan
    assert features_alone(train, test, seed=1).shape == (len(test),)
