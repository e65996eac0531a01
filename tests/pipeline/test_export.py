"""`spacewarps export` in a project whose pipeline has run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spacewarps.prediction.onnx_graph import METADATA_KEY
from spacewarps.survey.dataset import Space_Galaxi
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

pytestmark = pytest.mark.long


def test_the_graph_gives_the_test_split_the_probabilities_of_evaluate(
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
    answers = pd.read_csv(finished.folder / "reports/report/predictions.csv", dtype={"id": str})
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    expected = answers.set_index("id").loc[test.samples["id"], [f"p_{name}" for name in about["classes"]]]
    np.testing.assert_allclose(found, expected.to_numpy(), atol=1e-5)
