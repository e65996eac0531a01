from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from spacewarps.baselines.trees import boost, features_of
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey

Draw = Callable[..., PreparedSurvey]


def splits(survey: PreparedSurvey) -> tuple[Space_Galaxi, Space_Galaxi]:
    return Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")


def boosted(train: Space_Galaxi, test: Space_Galaxi, seed: int = 1) -> NDArray[np.float64]:
    return boost(features_of(train), train.labels.numpy(), features_of(test), len(train.classes), seed)


def test_trees_tell_classes_apart_by_their_features(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(sizes={"train": 300, "test": 60}))
    probabilities = boosted(train, test)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert 0.5 < (probabilities.argmax(axis=1) == test.labels.numpy()).mean() < 1


def test_trees_are_the_same_every_time(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(sizes={"train": 100, "test": 60}))
    first = boosted(train, test, seed=2**62 + 1)
    np.random.seed(3)  # noqa: NPY002 - the global generator is what must not matter
    assert np.array_equal(boosted(train, test, seed=2**62 + 1), first)


def test_values_that_are_missing_or_infinite_will_do(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(features=("z", "z_err", "flux")))
    for data in (train, test):
        data.features[::3, 0] = torch.nan
        data.features[1::3, 0] = -torch.inf
        data.features[:, 2] = torch.nan
    assert boosted(train, test).shape == (len(test), len(test.classes))


def test_a_class_that_was_not_learned_from_has_no_chance(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(sizes={"train": 100, "test": 60}))
    without = train.subset(train.labels.numpy() != 1)
    probabilities = boosted(without, test)
    assert (probabilities[:, 1] == 0).all()
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_errors_that_are_none_are_all_alike_to_trees(draw_survey: Draw) -> None:
    train, test = splits(draw_survey(sizes={"train": 100, "test": 60}))
    for data in (train, test):
        # One code for each class.
        data.features[:, 1] = -data.labels.float()
    assert np.isnan(features_of(train)[:, 1]).all()
    assert np.array_equal(features_of(train)[:, 0], train.features[:, 0].double().numpy())
