"""The ONNX graph of a final network, run by onnxruntime."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spacewarps.cli import main
from spacewarps.errors import ModelError, ParamsError
from spacewarps.model.ensemble import Ensemble, Network
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.model.storage import save_model
from spacewarps.prediction import onnx_check, onnx_graph, onnx_page
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.onnx_graph import METADATA_KEY, export_onnx
from spacewarps.prediction.reference import REFERENCE_FILE, Range, Reference, write_reference
from spacewarps.survey.settings import StampSettings
from spacewarps.training.compute import named_random_state, set_up_compute
from spacewarps.training.settings import ComputeSettings
from tests.complaints import complaint
from tests.prediction.conftest import CLASSES

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


def network(
    shape: tuple[int, int, int],
    features: Sequence[str],
    blocks: dict[str, int],
    seed: int,
    *,
    mask_channel: bool = False,
) -> ProgressiveModel:
    with named_random_state(seed, "initialisation"):
        model = ProgressiveModel(shape, features, CLASSES, Configuration(8, 2, 0.5), mask_channel=mask_channel)
        for kind, k in blocks.items():
            model.add_block(k, kind)
        for weights in model.trunk.state_dict().values():
            # The statistics of each BatchNorm too, as if it had learned.
            if weights.is_floating_point():
                weights.add_(torch.rand_like(weights) * 0.1)
    rng = np.random.default_rng(seed)
    stamps = rng.integers(0, 256, (20, *shape), dtype=np.uint8)
    model.fit_normalisers(stamps, torch.from_numpy(rng.random((20, len(features)), dtype=np.float32)))
    return model.eval()


def saved(folder: Path, model: Network, pixels: str, codes: dict[str, tuple[float, ...]]) -> Classifier:
    save_model(model, folder)
    ranges = dict.fromkeys(model.inputs.features)
    how = StampSettings(masks="channel" if model.inputs.mask_channel else "fill")
    reference = Reference(pixels, Range(50, 200), Range(10, 120), ranges, codes, how, 0.9, (0.25, 0.5, 1.0))
    write_reference(reference, CLASSES, folder / REFERENCE_FILE)
    return Classifier.load(folder)


def asked(content: bytes, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, inputs)
    assert isinstance(found, np.ndarray)
    return found


def metadata(content: bytes) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    return found


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Two networks in eight orientations, of grey stamps whose maps the fast ways of torch are for."""
    blocks = {"conv": 48, "residual": 64, "separable": 4, "inception": 5}
    members = [network((1, 40, 40), ("z", "z_err"), blocks, seed) for seed in (0, 1)]
    folder = tmp_path_factory.mktemp("square") / "model"
    return saved(folder, Ensemble(members, 8, 0.7), "uint8", {"z": (-9999.0, 99.9)})


@pytest.fixture(scope="module")
def content(square: Classifier) -> bytes:
    return export_onnx(square)


@pytest.mark.parametrize("count", [1, 9, 0])
def test_any_number_of_raw_samples_get_the_answers_of_torch(square: Classifier, content: bytes, count: int) -> None:
    rng = np.random.default_rng(count)
    stamps = rng.integers(0, 256, (count, 1, 40, 40), dtype=np.uint8)
    features = rng.random((count, 2)).astype(np.float32)
    as_known = features.copy()
    for row, value in enumerate((np.nan, -9999.0, 99.9, np.inf, -np.inf, 1e30, -1e-30)[:count]):
        features[row, 0] = as_known[row, 0] = value
    features[3:6, 1] = as_known[3:6, 1] = -1.0
    as_known[1:3, 0] = np.nan
    found = asked(content, stamps=stamps, features=features)
    assert (found.dtype.name, found.shape) == ("float32", (count, 3))
    np.testing.assert_allclose(found, square.network.predict_proba(stamps, as_known), atol=1e-6)


def test_a_graph_of_colour_stamps_of_floats_without_features(tmp_path: Path) -> None:
    model = network((3, 9, 12), (), {"residual": 4, "conv": 6}, seed=3)
    classifier = saved(tmp_path / "model", model, "float32", {})
    stamps = np.random.default_rng(0).normal(100, 40, (5, 3, 9, 12)).astype(np.float32)
    content = export_onnx(classifier)
    np.testing.assert_allclose(asked(content, stamps=stamps), model.predict_proba(stamps), atol=1e-6)
    about = metadata(content)
    assert about["stamps"] == {"channels": 3, "height": 9, "width": 12, "pixels": "float32"}
    assert (about["features"], about["networks"], about["orientations"]) == ([], 1, 1)


def test_a_graph_takes_the_mask_as_the_last_channel_and_says_so(tmp_path: Path) -> None:
    model = network((2, 9, 12), (), {"conv": 6}, seed=3, mask_channel=True)
    classifier = saved(tmp_path / "model", model, "uint8", {})
    content = export_onnx(classifier)
    samples = onnx_check.draw_samples(classifier)
    assert samples.mask_channel
    assert set(np.unique(samples.packed[:, 1])) == {0, 1}
    np.testing.assert_allclose(asked(content, stamps=samples.packed), model.predict_proba(samples.packed), atol=1e-6)
    assert metadata(content)["stamps"] == {
        "channels": 2,
        "height": 9,
        "width": 12,
        "pixels": "uint8",
        "mask_channel": True,
    }
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    assert onnx_check.compare_with_torch(content, classifier, samples, compute, lambda _: None).samples == 64
    for name in (onnx_page._RUNTIME, onnx_page._WASM):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = complaint(ParamsError, onnx_page.check_page, classifier, tmp_path)
    assert told == "the network takes stamps with a mask, which the page does not make; leave out --page"


def test_the_metadata_says_what_goes_in_and_what_comes_out(content: bytes, square: Classifier) -> None:
    assert isinstance(square.network, Ensemble)
    assert metadata(content) == {
        "format": "spacewarps-onnx-1",
        "stamps": {"channels": 1, "height": 40, "width": 40, "pixels": "uint8"},
        "features": ["z", "z_err"],
        "missing_codes": {"z": [-9999.0, 99.9]},
        "classes": list(CLASSES),
        "networks": 2,
        "orientations": 8,
        "temperature": 0.7,
        "coverage": 0.9,
        "thresholds": {"GALAXY": 0.25, "QSO": 0.5, "STAR": 1.0},
    }


def test_no_page_is_made_for_stamps_that_no_browser_reads(tmp_path: Path) -> None:
    classifier = saved(tmp_path / "model", network((1, 8, 8), (), {"conv": 4}, seed=1), "float32", {})
    for name in (onnx_page._RUNTIME, onnx_page._WASM):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = complaint(ParamsError, onnx_page.check_page, classifier, tmp_path)
    assert told == "the network takes stamps of float32, which no browser reads; leave out --page"
    for channels in (2, 4):
        several = saved(tmp_path / f"model{channels}", network((channels, 8, 8), (), {"conv": 4}, seed=1), "uint8", {})
        told = complaint(ParamsError, onnx_page.check_page, several, tmp_path)
        assert told.startswith(
            f"the network takes stamps of {channels} channels, and a browser reads pictures of 1 or 3"
        )


def test_names_from_outside_stay_text_on_the_page(tmp_path: Path) -> None:
    names = ("</script><script>alert(1)</script>", "@GRAPH@", "C")
    with named_random_state(0, "initialisation"):
        model = ProgressiveModel((1, 8, 8), (), names, Configuration(8, 2, 0.0))
    save_model(model, tmp_path / "model")
    write_reference(
        Reference("uint8", Range(0, 1), Range(0, 1), {}, {}, StampSettings(), 0.9, None),
        names,
        tmp_path / "model" / REFERENCE_FILE,
    )
    for name in (onnx_page._RUNTIME, onnx_page._WASM):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"of the package")
    page = onnx_page.page_of(Classifier.load(tmp_path / "model"), b"the graph", tmp_path)
    assert page == onnx_page.page_of(Classifier.load(tmp_path / "model"), b"the graph", tmp_path)
    told = page.split('id="description">')[1].split("</script>")[0]
    assert json.loads(told)["classes"] == list(names)


@pytest.mark.long
def test_another_process_elsewhere_writes_the_same_bytes(square: Classifier, content: bytes, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spacewarps.prediction.classifier import Classifier\n"
        "from spacewarps.prediction.onnx_graph import export_onnx\n"
        "Path('again.onnx').write_bytes(export_onnx(Classifier.load(Path(sys.argv[1]))))"
    )
    copy = tmp_path / "copy"
    save_model(square.network, copy)
    (copy / REFERENCE_FILE).write_bytes((square.folder / REFERENCE_FILE).read_bytes())
    subprocess.run([sys.executable, "-c", code, str(copy)], cwd=tmp_path, check=True)
    assert (tmp_path / "again.onnx").read_bytes() == content
    for named in (b".py", b"site-packages", str(Path.home()).encode() + b"/", b"File "):
        assert named not in content


def test_the_command_writes_what_answers_as_torch_does(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["export", "--model", str(classifier.folder), "--out"]
    assert main([*words, "there/graph.onnx"]) == 0
    graph = Path("there/graph.onnx").read_bytes()
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("there/graph.onnx: 1 network in 1 orientation, ")
    assert told[1].startswith("  64 samples of noise, as there is no prepared survey here, get the probabilities")
    assert told[2].startswith("  onnxruntime takes ")
    monkeypatch.setattr(onnx_check, "LARGEST_DIFFERENCE", -1.0)
    assert main([*words, "there/graph.onnx"]) == 2
    assert "answers otherwise than torch: a probability differs by" in capsys.readouterr().err
    assert Path("there/graph.onnx").read_bytes() == graph
    assert [path.name for path in Path("there").iterdir()] == ["graph.onnx"]


def test_what_export_cannot_do_is_said_in_a_line(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, told in (
        (("--out", "graph.bin", "--model", str(classifier.folder)), "graph.bin: a graph is written as .onnx"),
        (("--out", "graph.onnx", "--model", "nowhere"), "nowhere/model.json: no such file"),
        (("--out", "graph.onnx"), "models/final/model.json: no such file"),
        (("--out", "graph.onnx", "--page", "page.html"), "--page and --runtime belong together; name both, or neither"),
        (
            ("--out", "g.onnx", "--model", str(classifier.folder), "--page", "page.html", "--runtime", "empty"),
            "empty: holds no dist/ort.wasm.bundle.min.mjs; `npm install onnxruntime-web` brings it",
        ),
    ):
        assert main(["export", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"spacewarps export: {told}")
    monkeypatch.setattr(onnx_graph, "_MADE_WITH", ("onnx", "no_such_package"))
    assert main(["export", "--out", "graph.onnx", "--model", str(classifier.folder)]) == 2
    assert "the extra `onnx` is not installed (no_such_package)" in capsys.readouterr().err
    assert not Path("graph.onnx").exists()


def test_a_graph_of_another_network_is_found_out(classifier: Classifier, tmp_path: Path) -> None:

    other = saved(tmp_path / "other", network((1, 8, 8), ("z", "z_err"), {"conv": 4}, seed=9), "uint8", {})
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    samples = onnx_check.draw_samples(classifier)
    told = complaint(
        ModelError, onnx_check.compare_with_torch, export_onnx(other), classifier, samples, compute, lambda _done: None
    )
    assert "nothing was written" in told
