"""Search, final training, prediction and saliency on a few samples, in a process with the kernels that it is told.

    python tests/tiny_pipeline.py portable|native [cpu|cuda [fp32|bf16]]

Prints a line of JSON: a hash of what each part came to, to the bit.
"""

import hashlib
import json
import os
import sys
from typing import Any

from spacewarps.portability import is_pinned, pin_kernels

# Idle threads sleep instead of spinning, which an emulated processor takes minutes for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if sys.argv[1] == "portable":
    pin_kernels("portable")
    assert is_pinned()

import numpy as np
import pandas as pd

from spacewarps.model.settings import Configuration
from spacewarps.model.storage import pack_model
from spacewarps.report.saliency import saliency
from spacewarps.search.final import train_final
from spacewarps.search.folds import deal_folds
from spacewarps.search.progressive import SearchResult, search_folds
from spacewarps.search.settings import SearchSettings, WarmStart
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import kind_of_machine, set_up_compute
from spacewarps.training.final import Part
from spacewarps.training.prediction import predict
from spacewarps.training.settings import ComputeSettings, FinalSettings, Optimiser

# Large enough for the ways that large maps go.
SIDE, COUNT = 36, 24
CLASSES = ["GALAXY", "QSO", "STAR"]
OPTIMISER = Optimiser(batch_size=8, learning_rate=0.01)


def made_up(bands: int) -> Space_Galaxi:
    rng = np.random.default_rng(1)
    number = np.arange(COUNT)
    stamps = rng.normal(60 + 40 * (number % 3)[:, None, None, None], 20, (COUNT, bands, SIDE, SIDE))
    samples = pd.DataFrame({"id": number.astype(str), "source": number.astype(str), "split": "train"})
    samples["label"] = np.array(CLASSES)[number % 3]
    samples["ra"] = samples["dec"] = 0.0
    samples["z"] = rng.random(COUNT)
    samples["z_err"] = rng.uniform(-0.1, 0.1, COUNT)
    packed = stamps.clip(0, 255).astype(np.uint8) if bands == 1 else stamps.astype(np.float32)
    return Space_Galaxi(PreparedSurvey(packed, samples, CLASSES, ["z", "z_err"]))


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def of_search(result: SearchResult) -> str:
    return digest(json.dumps(result.history.as_json()).encode(), *map(pack_model, result.models))


def main() -> None:
    given: list[Any] = [*sys.argv[2:], *("cpu", "fp32")[len(sys.argv) - 2 :]]
    compute = set_up_compute(ComputeSettings(given[0], given[1], 1))
    augmentation, found = Augmentation(), {}
    data = made_up(1)
    folds = deal_folds(data, 2, augmentation, 1)
    settings = SearchSettings(
        max_layers=2,
        k_candidates=((48,), (8,)),
        block_kinds=("conv", "residual", "separable", "inception"),
        epochs_per_eval=1,
    )
    result = search_folds(folds, settings, optimiser=OPTIMISER, compute=compute, seed=1)
    found["search"] = of_search(result)
    final = train_final(
        result.model,
        [Part(*fold) for fold in folds],
        FinalSettings(epochs=2, average=0.9, folds=2),
        optimiser=OPTIMISER,
        compute=compute,
        seed=1,
    )
    found["final training"] = digest(*(pack_model(network) for network in final.network.networks))
    found["temperature and predictions"] = digest(
        repr((final.network.temperature, final.score)).encode(),
        predict(final.network, data, compute).numpy().tobytes(),
    )
    found["saliency"] = digest(saliency(final.network, data, range(4), [0, 1, 2, 0]).tobytes())
    bands = deal_folds(made_up(3), 2, augmentation, 1)
    siblings = SearchSettings(
        max_layers=1, k_candidates=(2, 4), epochs_per_eval=1, warm_start=WarmStart("siblings"), decides="accuracy"
    )
    result = search_folds(
        bands[:1], siblings, configuration=Configuration(8, 2, 0.1), optimiser=OPTIMISER, compute=compute, seed=1
    )
    found["siblings, three bands"] = of_search(result)
    print(json.dumps({"machine": kind_of_machine(compute.device), "found": found}))


main()
