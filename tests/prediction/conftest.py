from pathlib import Path

import numpy as np
import pytest
import torch

from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.model.storage import save_model
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.reference import REFERENCE_FILE, Range, Reference, write_reference
from spacewarps.survey.settings import StampSettings
from spacewarps.training.compute import named_random_state
from tests.survey.delivery import Delivery

CLASSES = ("GALAXY", "QSO", "STAR")


def save_classifier(
    folder: Path,
    seed: int = 0,
    thresholds: tuple[float, ...] | None = (0.0, 0.5, 1.0),
    stamps: StampSettings | None = None,
    pixels: str = "uint8",
    positions: tuple[str, str] | None = None,
) -> Classifier:
    """Write a network for the stamps of a delivery, untrained, and what it is said to have learned from."""
    with named_random_state(seed, "initialisation"):
        model = ProgressiveModel((1, 8, 8), ("z", "z_err"), CLASSES, Configuration(8, 2, 0.0))
        model.add_block(4)
    seen = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    model.fit_normalisers(seen, torch.from_numpy(np.random.default_rng(1).random((20, 2), dtype=np.float32)))
    save_model(model, folder)
    features = {"z": Range(0.0, 1.0), "z_err": None}
    how, codes = stamps or StampSettings(), {"z": (-9999.0,)}
    reference = Reference(pixels, Range(50, 200), Range(10, 120), features, codes, how, 0.9, thresholds, positions)
    write_reference(reference, CLASSES, folder / REFERENCE_FILE)
    return Classifier.load(folder)


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    return save_classifier(tmp_path / "model")


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    """A survey of 30 samples."""
    survey = Delivery(tmp_path / "survey")
    for number in range(30):
        survey.add(f"s{number:02}", "unknown", ra=number * 0.1)
        survey.rows[-1] |= {"z": f"{number / 30:.3f}", "z_err": ""}
    survey.write()
    return survey
