import numpy as np
import pytest
import torch

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import Ensemble
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration


def network(*features: str) -> ProgressiveModel:
    model = ProgressiveModel((1, 8, 8), features, ("A", "Bee", "C"), Configuration(8, 2, 0.5))
    model.add_block(4)
    return model


@pytest.mark.parametrize("several", [False, True])
def test_arrays_get_the_answers_that_tensors_get(several: bool) -> None:
    one = network("z", "z_err")
    model = Ensemble([one, network("z", "z_err")], orientations=8, temperature=2.0) if several else one
    rng = np.random.default_rng(0)
    stamps, features = rng.integers(0, 256, (300, 1, 8, 8), dtype=np.uint8), rng.random((300, 2))
    features[3, 0] = np.nan
    model.eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(stamps), torch.from_numpy(features).float()).double().softmax(dim=1).numpy()
    for flag in (True, False):
        model.train(flag)
        found = model.predict_proba(stamps, features)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert model.training is flag
    assert model.classes_.tolist() == ["A", "Bee", "C"]
    assert model.predict(stamps, features).tolist() == model.classes_[expected.argmax(axis=1)].tolist()
    assert model.predict(stamps[:0], features[:0]).shape == (0,)
    assert model.predict_proba(stamps[:2].tolist(), features[:2].tolist()) == pytest.approx(expected[:2], abs=1e-6)


def test_a_network_without_features_needs_none() -> None:
    assert network().predict_proba(np.zeros((2, 1, 8, 8))).shape == (2, 3)


def test_arrays_of_another_shape_or_of_no_numbers_are_refused() -> None:
    model, stamps = network("z"), np.zeros((2, 1, 8, 8))
    for given, told in (
        ((np.zeros((2, 8, 8)), np.zeros((2, 1))), r"takes stamps \[B, 1, 8, 8\]"),
        ((stamps, np.zeros(2)), "takes 1 features"),
        ((stamps, None), "takes 1 features"),
        ((stamps, [["far"], ["near"]]), "features must be an array of numbers"),
    ):
        with pytest.raises(ModelError, match=told):
            model.predict(*given)
