import ast
import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from spacewarps.model.storage import load_model
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.tracking.artifacts import SERVED_WITH
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import ROOT, Project

# Where the packages are not called as what they hold.
PACKAGE_OF = {"PIL": "pillow", "pydantic_core": "pydantic"}


def answers(project: Project) -> pd.DataFrame:
    """Return what `evaluate` answered for the test split."""
    return pd.read_csv(project.folder / "reports/report/predictions.csv", dtype={"id": str})


def probabilities(table: pd.DataFrame) -> NDArray[np.float64]:
    return table.filter(regex="^p_").to_numpy()


@pytest.fixture(scope="module")
def rows(finished: Project) -> pd.DataFrame:
    """The test split as a request has it: the bytes of an image file, and features."""
    samples = pd.read_csv(finished.folder / "data/prepared/samples.csv", dtype={"id": str}).set_index("id")
    ids = answers(finished)["id"]
    files = {path.stem: path for path in (finished.folder / "data/demo/images").iterdir()}
    stamps = [files[key].read_bytes() for key in ids]
    return pd.DataFrame(
        {"stamp": stamps, "z": samples.loc[ids, "z"].tolist(), "z_err": samples.loc[ids, "z_err"].tolist()}
    )


@pytest.fixture(scope="module")
def expected(finished: Project) -> NDArray[np.float64]:
    """What the network answers for the test split in float32, whatever precision `evaluate` had here."""
    test = Space_Galaxi(finished.folder / "data/prepared", split="test")
    network = load_model(finished.folder / "models/final")
    with torch.inference_mode():
        found: NDArray[np.float64] = network(*test.seen(range(len(test)))).double().softmax(dim=1).numpy()
    return found


@pytest.fixture(scope="module")
def model(finished: Project) -> Path:
    """The folder of the model in MLflow."""
    (description,) = finished.folder.glob("mlartifacts/models/*/artifacts/MLmodel")
    return description.parent


def test_the_test_split_has_the_probabilities_that_evaluate_gave(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    out = tmp_path / "all.parquet"
    options = ("--catalog", "data/demo/catalog", "--images", "data/demo/images", "--out", str(out))
    status, said, errors = spacewarps_here(finished, "predict", *options)
    assert (status, errors) == (0, "")
    table = pd.read_parquet(out)
    assert f"all.parquet: {len(table)} samples" in said
    expected = answers(finished)
    found = table.set_index("id").loc[expected["id"]].reset_index()
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-7)
    assert found["class"].tolist() == expected["predicted"].tolist()
    assert found["unusual"].tolist() == expected["unusual"].fillna("").tolist()
    # What evaluate says of the sets is what they hold.
    held = [row[f"may_be_{label}"] for (_, row), label in zip(found.iterrows(), expected["label"], strict=True)]
    sets = json.loads((finished.folder / "reports/metrics.json").read_text())["test"]["sets"]
    assert sets["coverage"] == pytest.approx(np.mean(held))
    assert sets["size"] == pytest.approx(found.filter(like="may_be_").sum(axis=1).mean())
    page = (finished.folder / "reports/report/report.md").read_text(encoding="utf-8")
    assert f"and holds the right one in {sets['coverage']:.1%}" in page
    left_out = pd.read_csv(tmp_path / "all.left_out.csv")
    audit = json.loads((finished.folder / "data/prepared/audit.json").read_text())
    assert len(table) + len(left_out) == audit["rows_in"]


def test_mlflow_answers_as_the_pipeline_does_from_image_files_or_pixels(
    finished: Project, rows: pd.DataFrame, model: Path, expected: NDArray[np.float64]
) -> None:
    served = mlflow.pyfunc.load_model(str(model))
    assert served.metadata.signature.inputs.required_input_names() == ["z", "z_err"]
    found = served.predict(rows)
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-6)
    stamps = np.load(finished.folder / "data/prepared/stamps.npy")
    samples = pd.read_csv(finished.folder / "data/prepared/samples.csv", dtype={"id": str})
    pixels = [stamps[samples.index[samples["id"] == key][0]].tolist() for key in answers(finished)["id"][:3]]
    of_pixels = served.predict(rows[:3].drop(columns="stamp").assign(pixels=pixels))
    pd.testing.assert_frame_equal(of_pixels, found[:3], atol=1e-6)


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the model, started far from the project."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("elsewhere")
    command = ["mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local", "--port", str(port)]
    with (folder / "said").open("wb") as said:
        server = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, stdout=said, stderr=said)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, (folder / "said").read_text()
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            server.terminate()
            server.wait()


def ask(address: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address, data=content, headers={"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error) if kind == "application/json" else error.read().decode()


def record(rows: pd.DataFrame, number: int = 0, **changes: Any) -> dict[str, Any]:
    row = rows.iloc[number]
    picture = base64.b64encode(row["stamp"]).decode()
    return {"stamp": picture, "z": float(row["z"]), "z_err": float(row["z_err"]), **changes}


def decoded(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The first stamp as pixels, for each channel, row and column."""
    picture = Image.open(io.BytesIO(rows["stamp"].iloc[0]))
    return np.asarray(picture, dtype=np.float64)[None]


def pixels_of(rows: pd.DataFrame, change: Callable[[float], Any]) -> dict[str, Any]:
    """A row with pixels that were changed."""
    pixels = [[[change(pixel) for pixel in line] for line in channel] for channel in decoded(rows).tolist()]
    return {"pixels": pixels, "z": 1.0, "z_err": 1.0}


@pytest.mark.long
def test_the_stage_asks_about_the_survey_of_the_params_as_the_command_does(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.folder.joinpath("dvc.lock").read_bytes()
    project.dvc("repro", "prediction/dvc.yaml")
    folder = project.folder / "data/predictions"
    assert sorted(path.name for path in folder.iterdir()) == [".spacewarps.json", "left_out.csv", "predictions.csv"]
    survey = ("--catalog", "data/demo/catalog", "--images", "data/demo/images")
    project.run("spacewarps", "predict", *survey, "--out", "mine.csv")
    assert (project.folder / "mine.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    assert (project.folder / "mine.left_out.csv").read_bytes() == (folder / "left_out.csv").read_bytes()
    # What is asked of another survey is no part of the pipeline, and is asked once.
    assert "didn't change, skipping" in project.dvc("repro", "prediction/dvc.yaml").stdout
    assert project.folder.joinpath("dvc.lock").read_bytes() == before
    (run,) = [run for run in project.runs() if run.info.run_name == "predict"]
    rows = len(pd.read_csv(folder / "predictions.csv"))
    assert run.data.metrics["predicted"] == rows > 0

    params = project.params()
    params["predict"]["images"] = "data/nowhere"
    project.write_params(params)
    done = project.run("spacewarps", "predict", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert len(pd.read_csv(folder / "predictions.csv")) == rows


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--catalog", "c", "--out", "t.csv"], "--images must be given too"),
        (["--images", "i"], "--catalog and --out must be given too"),
        (["--id", "name"], "--model, --id, --workers and --ray need --catalog, --images, --out"),
    ],
)
def test_a_survey_that_is_named_in_part_is_refused(
    on_prepared: Project, spacewarps_here: SpacewarpsHere, options: list[str], told: str
) -> None:
    status, _, errors = spacewarps_here(on_prepared, "predict", *options)
    assert (status, errors.count("\n")) == (2, 1)
    assert told in errors


@pytest.mark.long
def test_a_server_answers_with_the_same_numbers_and_refuses_in_a_sentence(
    rows: pd.DataFrame, address: str, expected: NDArray[np.float64]
) -> None:
    status, answer = ask(address, {"dataframe_records": [record(rows, number) for number in range(5)]})
    assert status == 200
    found = pd.DataFrame(answer["predictions"])
    np.testing.assert_allclose(probabilities(found), expected[:5], atol=1e-6)
    status, answer = ask(address, {"dataframe_records": [record(rows, z=None)]})
    assert status == 200
    assert answer["predictions"][0]["unusual"].startswith("z missing")
    whole = decoded(rows).astype(int).tolist()
    for pixels in (whole, decoded(rows).tolist()):
        row = {"pixels": pixels, "z": float(rows["z"].iloc[0]), "z_err": float(rows["z_err"].iloc[0])}
        status, answer = ask(address, {"dataframe_records": [row]})
        assert status == 200, answer
        np.testing.assert_allclose(probabilities(pd.DataFrame(answer["predictions"])), expected[:1], atol=1e-6)
    no_picture = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    for body, told in (
        ({"dataframe_records": [{name: record(rows)[name] for name in ("stamp", "z")}]}, "missing inputs ['z_err']"),
        ({"dataframe_records": [record(rows, z="far")]}, "could not convert"),
        ({"dataframe_records": [record(rows), record(rows, stamp=no_picture)]}, "row 1: damaged stamp"),
        ({"dataframe_records": [record(rows, pixels=[[[1.0]]])]}, "row 0: a row holds either"),
        ({"dataframe_records": [{"z": 1.0, "z_err": 1.0}]}, "row 0: a row holds either"),
        (
            {"dataframe_records": [{"pixels": [[[1.0, 2.0], [3.0]]], "z": 1.0, "z_err": 1.0}]},
            "row 0: 'pixels' must be [1, 75, 75] numbers",
        ),
        ({"dataframe_records": [pixels_of(rows, str)]}, "row 0: 'pixels' must be [1, 75, 75] numbers"),
        ({"dataframe_records": [pixels_of(rows, bool)]}, "row 0: 'pixels' must be [1, 75, 75] numbers"),
        ({"dataframe_records": [pixels_of(rows, lambda pixel: pixel * 1e300)]}, "row 0: 'pixels' must be whole"),
        ({"dataframe_records": [record(rows, stamp="abc")]}, "Failed to convert column stamp"),
        ({"dataframe_records": [record(rows, stamp=7)]}, "Failed to convert column stamp"),
        ({"dataframe_records": [record(rows, stamp="")]}, "row 0: stamp file of zero bytes alone"),
        ({"dataframe_records": [record(rows, z=[0.5])]}, "Failed to convert column z"),
        ({"dataframe_records": [1, 2]}, "missing inputs ['z', 'z_err']"),
        ({"dataframe_records": record(rows)}, "must be a list of records"),
        ({"dataframe_records": []}, ""),
        ({"rows": [record(rows)]}, "exactly one of the input fields"),
        ([record(rows)], "must be a JSON dictionary"),
        ({"inputs": [[1, 2]]}, "Failed to enforce schema"),
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"{no JSON", "JSON"),
    ):
        status, answer = ask(address, body)
        assert (status, told in answer["message"]) == (400, True), answer
        assert "Traceback" not in json.dumps(answer)
    for kind in ("text/plain", "application/octet-stream"):
        assert ask(address, {"dataframe_records": [record(rows)]}, kind)[0] == 415
    # It is as well as before.
    assert ask(address, {"dataframe_records": [record(rows)]})[0] == 200


@pytest.mark.long
@pytest.mark.parametrize("page", ["README.md", "docs/predicting.md"])
def test_the_example_request_of_the_documentation_is_answered(
    page: str, rows: pd.DataFrame, address: str, expected: NDArray[np.float64], tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    text = (ROOT / page).read_text(encoding="utf-8")
    (example,) = re.findall(r"^    (curl http://127.0.0.1:5001/invocations .*\\\n.*)$", text, re.MULTILINE)
    stamp = tmp_path / re.findall(r"base64 --wrap=0 (\S+)\)", example)[0]
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_bytes(rows["stamp"].iloc[0])
    for name in ("z", "z_err"):
        example = re.sub(rf'(\\"{name}\\": )[\d.]+', rf"\g<1>{float(rows[name].iloc[0])!r}", example)
    command = example.replace("http://127.0.0.1:5001/invocations", address)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(
        probabilities(pd.DataFrame(json.loads(done.stdout)["predictions"])), expected[:1], atol=1e-6
    )


# What a fresh environment does with the champion; nothing may be unpickled on the way.
LOADS_THE_CHAMPION = """
import importlib.util, json, sys
import mlflow, numpy, pandas, torch
assert importlib.util.find_spec("spacewarps") is None
unpickled = []
sys.addaudithook(lambda event, found: unpickled.append(found) if event == "pickle.find_class" else None)
model = mlflow.pyfunc.load_model("models:/space-warps@champion")
print(json.dumps({
    "answers": model.predict(pandas.read_parquet(sys.argv[1])).to_dict("list"),
    "unpickled": unpickled,
    "code": sys.modules["spacewarps"].__file__,
}))
"""


@pytest.mark.long
def test_an_environment_without_the_project_loads_the_champion_from_the_registry(
    finished: Project,
    spacewarps_here: SpacewarpsHere,
    rows: pd.DataFrame,
    expected: NDArray[np.float64],
    tmp_path: Path,
) -> None:
    project = finished.copy(tmp_path / "project")
    status, said, errors = spacewarps_here(project, "promote")
    assert status == 0, (said, errors)
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=False)
    (packages,) = fresh.glob("lib/python*/site-packages")
    # The installed dependencies, but not what is installed by a .pth file, as the project is.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    rows.to_parquet(tmp_path / "rows.parquet")
    done = subprocess.run(
        [fresh / "bin/python", "-c", LOADS_THE_CHAMPION, tmp_path / "rows.parquet"],
        cwd=fresh,
        env={"PATH": os.environ["PATH"], "MLFLOW_TRACKING_URI": f"sqlite:///{project.folder / 'mlflow.db'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(probabilities(pd.DataFrame(found["answers"])), expected, atol=1e-6)
    assert found["unpickled"] == []
    assert not Path(found["code"]).is_relative_to(ROOT)


def test_the_model_brings_its_code_and_names_all_that_this_imports(model: Path, tmp_path: Path) -> None:
    code = (
        "import mlflow, sys, json; mlflow.pyfunc.load_model(sys.argv[1])\n"
        "names = [name for name in sys.modules if name.partition('.')[0] == 'spacewarps']\n"
        "print(json.dumps([sys.modules[name].__file__ for name in names]))"
    )
    command = [sys.executable, "-c", code, str(model)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    files = [Path(name) for name in json.loads(done.stdout.splitlines()[-1])]
    assert files
    assert all(file.is_relative_to(model / "code") for file in files)
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None
                imported.add(node.module.partition(".")[0])
    needed = {PACKAGE_OF.get(name, name) for name in imported - set(sys.stdlib_module_names) - {"spacewarps"}}
    assert needed == set(SERVED_WITH)
    required = (model / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in required} == {"mlflow", *SERVED_WITH}
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle", ".pyc")]
