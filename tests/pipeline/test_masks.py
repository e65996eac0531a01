"""A survey of which some pixels were measured by nobody, from delivery to answers, with the mask as a channel."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from numpy.typing import NDArray

from spacewarps.model.storage import load_model
from spacewarps.survey.dataset import Space_Galaxi
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import ROOT, Project
from tests.survey.stamp_files import in_fits
from tests.survey.test_tiff import tiff
from tiny_project import TINY

SIDE, CLASSES, COUNT = 18, ("QSO", "STAR"), 60
STAGES = ("prepare", "search", "train", "evaluate", "crossvalidate")


def stamp_of(number: int) -> NDArray[np.float32]:
    """Two bands of 18 x 18 pixels, a corner of which is masked in one band of some and in both of others."""
    rng = np.random.default_rng(number)
    pixels = rng.normal(100 + 20 * (number % 2), 10, (2, SIDE, SIDE)).astype(np.float32)
    if number % 3:
        pixels[: number % 3, :5, :6] = np.nan
    return pixels


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivered")
    (folder / "stamps").mkdir()
    lines = ["id,class,ra,dec,z,z_err"]
    for number in range(COUNT):
        lines.append(f"s{number:02},{CLASSES[number % 2]},{number},0,{number / COUNT},0.01")
        (folder / "stamps" / f"s{number:02}.fits").write_bytes(in_fits(stamp_of(number)))
    (folder / "catalog.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.long
def test_a_mask_goes_from_the_delivered_files_to_every_answer_and_page(
    delivered: Path, tmp_path: Path, spacewarps_here: SpacewarpsHere
) -> None:
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TINY.items():
        params[section] |= values
    params["data"] |= {
        "catalog": str(delivered / "catalog.csv"),
        "images": str(delivered / "stamps"),
        "masks": "channel",
        "stamp_size": 20,
    }
    params["crossvalidate"] = {"folds": 2, "repeats": 1}
    params["train"]["epochs"] = 1
    # All but ResNet, which takes as long as all the rest.
    params["evaluate"]["baselines"] = dict.fromkeys(params["evaluate"]["baselines"], True) | {"resnet": False}
    project.write_params(params)
    said = {}
    for stage in STAGES:
        status, said[stage], errors = spacewarps_here(project, stage)
        assert status == 0, errors
    assert "the last of 3 channels is the mask (data.masks)" in said["prepare"]

    test = Space_Galaxi(project.folder / "data/prepared", split="test")
    network = load_model(project.folder / "models/final")
    assert test.mask_channel
    assert network.inputs.mask_channel
    assert network.inputs.stamp_shape == (3, 20, 20)
    page = (project.folder / "reports/report.html").read_text(encoding="utf-8")
    assert "The mask, the last channel, is not drawn" in page
    assert "stamps of 2 channels and a mask, 20 x 20 pixels" in (project.folder / "reports/card.md").read_text()

    answers = pd.read_csv(project.folder / "reports/report/predictions.csv", dtype={"id": str}).set_index("id")
    columns = [f"p_{name}" for name in CLASSES]
    out = tmp_path / "all.csv"
    options = ("--catalog", str(delivered / "catalog.csv"), "--images", str(delivered / "stamps"), "--out", str(out))
    assert spacewarps_here(project, "predict", *options)[0] == 0
    found = pd.read_csv(out, dtype={"id": str}).set_index("id").loc[answers.index]
    np.testing.assert_allclose(found[columns], answers[columns], atol=1e-7)

    # What MLflow serves makes the mask itself: of files, and of pixels with NaN or null.
    [description] = project.folder.glob("mlartifacts/models/*/artifacts/MLmodel")
    served = mlflow.pyfunc.load_model(str(description.parent))
    with torch.inference_mode():
        # In float32, as it is served, whatever precision `evaluate` had here.
        expected = network(*test.seen(range(len(test)))).double().softmax(dim=1).numpy()
    numbers = [int(key[1:]) for key in test.samples["id"]]
    # Padded by nobody, as pixels come in the size that the network takes.
    padded = [np.pad(stamp_of(number), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan) for number in numbers]
    rows = pd.DataFrame({"pixels": [pixels.tolist() for pixels in padded]})
    rows["z"], rows["z_err"] = [number / COUNT for number in numbers], 0.01
    np.testing.assert_allclose(served.predict(rows)[columns], expected, atol=1e-6)
    files = rows.drop(columns="pixels").assign(stamp=[tiff(*stamp_of(number)) for number in numbers])
    np.testing.assert_allclose(served.predict(files)[columns], expected, atol=1e-6)
    text = json.loads(json.dumps(rows["pixels"][0]).replace("NaN", "null"))
    [first] = served.predict(rows[:1].assign(pixels=[text]))[columns].to_numpy()
    np.testing.assert_allclose(first, expected[0], atol=1e-6)
