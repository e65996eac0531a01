import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from spacewarps.errors import ModelError, SurveyError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import load_stamps
from spacewarps.survey.samples import Samples
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import predict


@pytest.fixture
def model(test_data: Space_Galaxi) -> ProgressiveModel:
    model = ProgressiveModel(
        test_data.stamp_shape, test_data.feature_names, test_data.classes, Configuration(8, 2, 0.2)
    )
    model.add_block(4)
    model.fit_normalisers(test_data.stamps, test_data.features)
    return model


def test_samples_without_labels_are_predicted_as_those_with(
    model: ProgressiveModel, test_data: Space_Galaxi, compute: Compute
) -> None:
    table = test_data.samples[["z", "z_err"]]
    unlabelled = Samples(test_data.packed, table, test_data.rows)
    assert torch.equal(predict(model, unlabelled, compute), predict(model, test_data, compute))
    some = Samples(test_data.stamps[3:8], table.iloc[3:8])
    assert torch.allclose(predict(model, some, compute), predict(model, test_data, compute)[3:8], atol=1e-5)


def test_samples_that_the_network_was_not_made_for_are_refused(
    model: ProgressiveModel, test_data: Space_Galaxi, compute: Compute
) -> None:
    with pytest.raises(ModelError, match="made for features z, z_err, but the survey has z"):
        predict(model, Samples(test_data.stamps, test_data.samples[["z"]]), compute)


def test_features_without_a_row_for_each_stamp_are_refused() -> None:
    with pytest.raises(SurveyError, match="must have a row for each of 3 stamps, but have 2"):
        Samples(np.zeros((3, 1, 4, 4), "uint8"), pd.DataFrame({"z": [0.1, 0.2]}))


def test_another_process_maps_the_stamps_of_samples(prepared_folder: Path) -> None:
    packed = load_stamps(prepared_folder / "stamps.npy")
    samples = Samples(packed, pd.DataFrame(index=range(2)), np.array([5, 1]))
    received = pickle.loads(pickle.dumps(samples))
    assert isinstance(received.packed, np.memmap)
    assert received.stamps.tobytes() == packed[[5, 1]].tobytes()
