import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacewarps.errors import ModelError
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.reference import (
    REFERENCE_FILE,
    Range,
    describe_training,
    levels,
    read_reference,
    write_reference,
)
from spacewarps.prediction.unusual import unusual_in
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.settings import StampSettings
from tests.prediction.conftest import save_classifier


def test_what_was_learned_from_is_described_and_read_back(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, classifier: Classifier
) -> None:
    parts = [train_data, validation_data]
    found = describe_training(
        parts, missing_codes={"z": [-99]}, stamps=StampSettings(), coverage=0.8, thresholds=(0.1, 0.2, 0.3)
    )
    stamps = np.concatenate([part.stamps for part in parts]).astype(np.float64)
    spreads = [stamp.std() for stamp in stamps]
    assert found.spread == pytest.approx((min(spreads), max(spreads)))
    assert found.brightness == Range(*(edge(np.median(stamp) for stamp in stamps) for edge in (min, max)))
    z = np.concatenate([part.features[:, 0].numpy() for part in parts])
    assert found.features["z"] == Range(np.nanmin(z), np.nanmax(z))
    # Whatever a network learned from is not unusual, to the bit.
    for part in parts:
        assert set(unusual_in(part.features.numpy(), levels(part.stamps), found)) <= {"", "z missing", "z_err missing"}
    write_reference(found, classifier.network.inputs.classes, classifier.folder / REFERENCE_FILE)
    assert read_reference(classifier.folder, classifier.network) == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"thresholds": {"GALAXY": 0.1}}, "its classes are not those of the network beside it"),
        ({"features": {"z": None}}, "its features are not those of the network beside it"),
        ({"thresholds": {"GALAXY": 0.1, "QSO": 2.0, "STAR": 0}}, r"damaged \('thresholds.QSO'"),
        ({"stamps": {"stamp_size": -1}}, r"damaged \(stamp_size is -1"),
        ({"stamps": {"size": 8}}, r"damaged \(size is not one of the settings"),
        ({"pixels": "int64"}, r"damaged \('pixels'"),
        ({"brightness": {"low": "nan", "high": 1.0}}, r"damaged \('brightness.low'"),
        ({"format": "spacewarps-reference-9"}, r"damaged \('format'"),
        ({"stamps": {"masks": "channel"}}, "its masks are not those of the network beside it"),
    ],
)
def test_a_reference_that_is_not_that_of_the_network_is_refused(
    classifier: Classifier, change: dict[str, Any], told: str
) -> None:
    path = classifier.folder / REFERENCE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=told):
        read_reference(classifier.folder, classifier.network)


def test_how_stamps_were_read_is_written_where_anything_was_set(tmp_path: Path) -> None:
    how = StampSettings(stamp_size=8, stamp_extension="SCI", stamp_bands=("g",))
    assert save_classifier(tmp_path / "set", stamps=how).reference.stamps == how
    # As it was written before there was such a setting.
    assert "masks" not in json.loads((tmp_path / "set" / REFERENCE_FILE).read_text())["stamps"]
    assert save_classifier(tmp_path / "plain").reference.stamps == StampSettings()
    cut = StampSettings(stamp_size=8, cutouts=True)
    named = save_classifier(tmp_path / "cut", stamps=cut, positions=("RAJ2000", "DEJ2000")).reference
    assert (named.stamps, named.positions) == (cut, ("RAJ2000", "DEJ2000"))
    with pytest.raises(ModelError, match="no names of positions, by which stamps are cut"):
        save_classifier(tmp_path / "cut from nowhere", stamps=cut)
    assert "stamps" not in json.loads((tmp_path / "plain" / REFERENCE_FILE).read_text())


def test_a_network_of_which_nobody_knows_what_it_learned_from_is_refused(classifier: Classifier) -> None:
    (classifier.folder / REFERENCE_FILE).unlink()
    with pytest.raises(ModelError, match="no such file, so nobody knows what the network learned from"):
        Classifier.load(classifier.folder)


def test_what_is_unusual_is_told_in_words(classifier: Classifier) -> None:
    usual = np.array([[100.0, 50.0]])

    def told(z: float, z_err: float = np.nan, measured: np.ndarray[Any, Any] = usual) -> str:
        [words] = unusual_in(np.array([[z, z_err]], dtype=np.float32), measured, classifier.reference)
        return words

    assert told(0.0) == told(1.0) == "z_err missing"
    assert told(np.nan) == told(np.inf) == "z missing; z_err missing"
    assert told(1.5) == "z above; z_err missing"
    assert told(-0.5, 0.1) == "z below; z_err never seen"
    assert (
        told(0.5, 0.1, np.array([[201.0, 9.0]])) == "z_err never seen; stamp's brightness above; stamp's spread below"
    )
