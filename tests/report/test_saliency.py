import numpy as np
import pytest
import torch

from spacewarps.model.ensemble import Ensemble
from spacewarps.report.saliency import saliency
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from tests.report.results import network_for

pytestmark = pytest.mark.usefixtures("compute")


def test_it_is_the_gradient_of_the_answers_score(test_data: Space_Galaxi) -> None:
    network = network_for(test_data, 0).double()
    [found] = saliency(network, test_data, [3], [1])
    images, features = test_data.seen([3])
    with torch.no_grad():
        stretched = network.maps(images.double(), 0)

        def logit(pixels: torch.Tensor) -> float:
            return float(network.finish(pixels, features.double(), 0)[0, 1])

        for row, column in ((0, 0), (7, 9)):
            step = torch.zeros_like(stretched)
            step[0, 0, row, column] = 1e-6
            slope = (logit(stretched + step) - logit(stretched - step)) / 2e-6
            assert found[row, column] == pytest.approx(abs(slope), rel=1e-3, abs=1e-6)
    assert found.max() > 0


def test_an_ensemble_that_looks_at_all_orientations_sees_a_turned_stamp_turned(prepared: PreparedSurvey) -> None:
    turned = PreparedSurvey(
        np.rot90(prepared.stamps, axes=(2, 3)).copy(), prepared.samples, prepared.classes, prepared.features
    )
    data, other = (Space_Galaxi(survey, split="test") for survey in (prepared, turned))
    network = Ensemble([network_for(data, seed) for seed in range(2)], 8)
    before, after = (saliency(network, each, [0, 5], [2, 0]) for each in (data, other))
    assert after == pytest.approx(np.rot90(before, axes=(1, 2)), rel=1e-4, abs=1e-6)
    assert not np.allclose(after, before)


def test_it_leaves_the_network_as_it_was_and_repeats_to_the_bit(test_data: Space_Galaxi) -> None:
    network = Ensemble([network_for(test_data, seed) for seed in range(2)], 8)
    first, second = (saliency(network, test_data, [1, 2, 4], [0, 1, 2]) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.shape == (3, 16, 16)
    assert all(weights.grad is None for weights in network.parameters())


def test_of_no_sample_there_is_no_map(test_data: Space_Galaxi) -> None:
    assert saliency(network_for(test_data, 0), test_data, [], []).shape == (0, 16, 16)
