"""On a CUDA device: the same bits every time, and in float32 what the processor answers but for rounding."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from spacewarps.model.network import ProgressiveModel
from spacewarps.model.storage import pack_model
from spacewarps.search.executors.base import Executor
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.executors.processes import ProcessesExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.progressive import search_folds
from spacewarps.search.settings import SearchSettings
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.prediction import predict
from spacewarps.training.settings import ComputeSettings, Optimiser

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that torch can use")
PIPELINE = Path(__file__).with_name("tiny_pipeline.py")


@pytest.fixture
def on_device() -> Compute:
    return set_up_compute(ComputeSettings("cuda", "fp32", 1))


def bits(kernels: str, precision: str) -> dict[str, Any]:
    command = [sys.executable, str(PIPELINE), kernels, "cuda", precision]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_search_training_and_prediction_repeat_to_the_bit(precision: str) -> None:
    found = bits("native", precision)
    assert torch.cuda.get_device_name() in found["machine"]
    assert bits("native", precision) == found


def test_what_the_processor_prepares_may_be_portable() -> None:
    assert bits("portable", "fp32") == bits("portable", "fp32")


def test_processes_find_what_one_process_finds(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, on_device: Compute
) -> None:
    folds = [Fold(train_data, validation_data)]
    settings = SearchSettings(max_layers=2, k_candidates=(4, 8), epochs_per_eval=2)

    def weights(executor: Executor) -> bytes:
        with executor:
            result = search_folds(
                folds,
                settings,
                optimiser=Optimiser(batch_size=16, learning_rate=0.01),
                compute=on_device,
                executor=executor,
                seed=1,
            )
        return pack_model(result.model)

    alone = weights(InlineExecutor(folds))
    assert weights(ProcessesExecutor(folds, on_device, workers=2, accelerators=1)) == alone


@pytest.mark.parametrize("kind", ["conv", "residual", "separable", "inception"])
def test_answers_are_those_of_the_processor_but_for_rounding(
    kind: str, test_data: Space_Galaxi, compute: Compute, on_device: Compute
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = ProgressiveModel(test_data.stamp_shape, test_data.feature_names, test_data.classes)
        model.add_block(8, kind)
        model.add_block(48, kind)
    model.fit_normalisers(test_data.stamps, test_data.features)
    expected = predict(copy.deepcopy(model), test_data, compute)
    torch.testing.assert_close(predict(model, test_data, on_device), expected, rtol=1e-4, atol=1e-5)
