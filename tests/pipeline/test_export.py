"""`spacewarps export` in a project whose pipeline has run."""

from pathlib import Path

import numpy as np
import pytest

from spacewarps.model.storage import load_model
from spacewarps.survey.dataset import Space_Galaxi
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

pytestmark = pytest.mark.long


def test_the_graph_gives_the_test_split_the_probabilities_of_torch(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    out = tmp_path / "graph.onnx"
    status, said, errors = spacewarps_here(finished, "export", "--out", str(out))
    assert (status, errors) == (0, "")
    test = Space_Galaxi(finished.folder / "data/prepared", split="test")
    assert f"  {len(test)} samples of the test split get the probabilities that torch gives them, to " in said
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"stamps": test.stamps, "features": test.features.numpy()})
    assert isinstance(found, np.ndarray)
    # In float32, whatever precision `evaluate` had here.
    network = load_model(finished.folder / "models/final")
    np.testing.assert_allclose(found, network.predict_proba(test.stamps, test.features), atol=1e-5)
