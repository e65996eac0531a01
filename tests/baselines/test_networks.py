from collections.abc import Callable

import pytest
import torch

from spacewarps.baselines.networks import vgg_blocks
from spacewarps.baselines.resnet import FixedResNet
from spacewarps.baselines.views import without_features, without_sources, without_stamps
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import BatchIndices, Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.untrained import inputs_of

Draw = Callable[..., PreparedSurvey]


@pytest.fixture
def data(draw_survey: Draw) -> Space_Galaxi:
    return Space_Galaxi(draw_survey(), split="train", augmentation=Augmentation())


def test_without_stamps_nothing_of_them_is_seen(data: Space_Galaxi) -> None:
    batch = without_stamps(data).batch(BatchIndices([0, 1, 2], seed=1))
    assert batch.images.shape == (3, 1, 1, 1)
    assert not batch.images.any()
    assert torch.equal(batch.features, data.features[:3])
    assert torch.equal(batch.labels, data.labels[:3])


def test_without_features_the_stamps_stay(data: Space_Galaxi) -> None:
    blind = without_features(data)
    assert blind.batch(BatchIndices([0, 1], seed=1)).features.shape == (2, 0)
    assert torch.equal(blind.seen([0, 1]).images, data.seen([0, 1]).images)
    assert (blind.feature_names, data.feature_names) == ([], ["z", "z_err"])


def test_without_sources_each_row_is_one(draw_survey: Draw) -> None:
    data = Space_Galaxi(draw_survey(rows_of_a_source=2), split="train")
    assert data.samples["source"].nunique() == len(data) // 2
    assert without_sources(data).samples["source"].nunique() == len(data)
    assert data.samples["source"].nunique() == len(data) // 2


def test_the_blocks_are_the_wider_the_deeper() -> None:
    assert [block.k for block in vgg_blocks(6)] == [32, 64, 96, 128, 128, 128]


def test_the_residual_network_sees_stamps_and_features(data: Space_Galaxi) -> None:
    network = FixedResNet(inputs_of(data)).eval()
    stamps, features = data.seen([0, 1])
    answers = network(stamps, features)
    assert answers.shape == (2, len(data.classes))
    assert not torch.equal(answers, network(stamps, features + 1))
    assert not torch.equal(answers, network(stamps.flip(0), features))
