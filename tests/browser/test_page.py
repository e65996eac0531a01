"""The page of `spacewarps export`, on which a network answers in the browser."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from spacewarps.cli import main
from spacewarps.model.storage import load_model
from spacewarps.prediction.classifier import Classifier
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.conformal import prediction_sets
from tests.browser.visitor import Visitor
from tests.pipeline.project import ROOT, Project
from tests.prediction.conftest import CLASSES, save_classifier

pytestmark = pytest.mark.long

RUNTIME = ROOT / "build/npm/node_modules/onnxruntime-web"
THRESHOLDS = (0.2, 0.35, 0.9)


def export(model: Path, page: Path) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra `onnx` is not installed")
    if not RUNTIME.exists():
        pytest.skip(f"there is no onnxruntime-web; make {RUNTIME.relative_to(ROOT)}")
    words = ["export", "--model", str(model), "--out", str(page.with_suffix(".onnx"))]
    assert main([*words, "--page", str(page), "--runtime", str(RUNTIME)]) == 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A classifier, and its page."""
    folder = tmp_path_factory.mktemp("page")
    classifier = save_classifier(folder / "model", thresholds=THRESHOLDS)
    export(classifier.folder, folder / "page.html")
    return classifier, folder / "page.html"


@pytest.fixture
def on_page(visitor: Visitor, exported: tuple[Classifier, Path]) -> Visitor:
    visitor.page.goto(exported[1].as_uri())
    visitor.sees("Tells GALAXY, QSO, STAR apart, from a stamp of 8 x 8 pixels and z, z_err. Nothing leaves this page.")
    return visitor


def drawn(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape or (8, 8), dtype=np.uint8)


def png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def drop(visitor: Visitor, name: str, content: bytes) -> None:
    """Let a file fall onto the page."""
    held = visitor.page.evaluate_handle(
        """([name, content]) => {
            const held = new DataTransfer();
            held.items.add(new File([Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0))], name));
            return held;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    visitor.page.dispatch_event("#drop", "drop", {"dataTransfer": held})


def shown(visitor: Visitor) -> dict[str, tuple[float, str]]:
    """Return the probability of each class on the page, and whether it may be that one."""
    rows = visitor.page.locator("#answer tbody tr").all()
    cells = [row.locator("td").all_text_contents() for row in rows]
    return {name: (float(probability), member) for name, probability, member in cells}


@pytest.fixture(scope="module")
def exported_result(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a network that the pipeline has made."""
    page = tmp_path_factory.mktemp("result") / "page.html"
    export(finished.folder / "models/final", page)
    return page


def sees_as_most_probable(visitor: Visitor, probabilities: NDArray[np.float64]) -> None:
    """Wait until the page shows the highest of ``probabilities``."""
    # Cut, not rounded, as the page shows more digits.
    probability = f"{probabilities.max():.8f}"[:6]
    visitor.page.locator("#answer tbody td.number").filter(has_text=probability).first.wait_for()


def check_shown(visitor: Visitor, classifier: Classifier, pixels: NDArray[Any], features: list[float]) -> None:
    """Wait until the page shows what torch answers."""
    expected = classifier.network.predict_proba(pixels[None, None], [features])
    sees_as_most_probable(visitor, expected[0])
    found = shown(visitor)
    assert list(found) == list(CLASSES)
    assert [each for each, _ in found.values()] == pytest.approx(expected[0], abs=1e-5)
    members = prediction_sets(expected, THRESHOLDS)[0]
    assert [member for _, member in found.values()] == ["yes" if is_in else "no" for is_in in members]
    assert visitor.page.locator("#class").text_content() == CLASSES[int(expected.argmax())]


def test_who_drops_a_stamp_and_types_z_reads_what_torch_answers(
    on_page: Visitor, exported: tuple[Classifier, Path]
) -> None:
    classifier, _ = exported
    pixels = drawn(1)
    drop(on_page, "stamp.png", png(pixels))
    check_shown(on_page, classifier, pixels, [np.nan, np.nan])
    on_page.page.fill("#feature-0", "0.75")
    check_shown(on_page, classifier, pixels, [0.75, np.nan])
    on_page.page.fill("#feature-1", "0.001")
    check_shown(on_page, classifier, pixels, [0.75, 0.001])
    on_page.page.fill("#feature-0", "-9999")
    check_shown(on_page, classifier, pixels, [np.nan, 0.001])
    # Digit by digit, each of which asks anew.
    on_page.page.fill("#feature-0", "")
    on_page.page.type("#feature-0", "0.4375")
    check_shown(on_page, classifier, pixels, [0.4375, 0.001])
    on_page.page.fill("#feature-0", "-9999")
    check_shown(on_page, classifier, pixels, [np.nan, 0.001])
    # Another stamp, chosen from a folder.
    other = drawn(2)
    on_page.page.set_input_files(
        "#file", {"name": "other.png", "mimeType": "image/png", "buffer": png(np.stack([other] * 3, axis=-1))}
    )
    check_shown(on_page, classifier, other, [np.nan, 0.001])


def test_what_is_no_stamp_of_the_network_is_refused_in_a_sentence(on_page: Visitor) -> None:
    drop(on_page, "stamp.png", png(drawn(1)))
    on_page.sees("GALAXY")
    transparent = np.full((8, 8, 4), 100, np.uint8)
    for name, content, told in (
        ("large.png", png(drawn(1, 9, 8)), "The stamp has 8 x 9 pixels, but the network takes 8 x 8."),
        ("colour.png", png(drawn(1, 8, 8, 3)), "The stamp is in colour, but the network takes grey ones."),
        ("deep.png", png(drawn(1).astype(np.uint16) * 256), "The stamp has 16 bits a channel"),
        ("glass.png", png(transparent), "The stamp has transparent pixels; save it without an alpha channel."),
        ("notes.txt", b"no picture", "notes.txt is no picture that a browser reads; save it as PNG or JPEG."),
    ):
        drop(on_page, name, content)
        on_page.sees(told)
        assert on_page.page.locator("#answer").text_content() == ""
    drop(on_page, "stamp.png", png(drawn(1)))
    on_page.page.locator("#answer tbody tr").first.wait_for()
    assert on_page.page.locator("#fault").text_content() == ""


def test_the_test_split_gets_the_probabilities_that_the_pipeline_gave_it(
    visitor: Visitor, exported_result: Path, finished: Project
) -> None:
    visitor.page.goto(exported_result.as_uri())
    test = Space_Galaxi(finished.folder / "data/prepared", split="test")
    # In float32, whatever precision `evaluate` had here.
    expected = load_model(finished.folder / "models/final").predict_proba(test.stamps, test.features.numpy())
    for key, values, probabilities in zip(test.samples["id"], test.features.tolist(), expected, strict=True):
        drop(visitor, f"{key}.jpg", (finished.folder / f"data/demo/images/{key}.jpg").read_bytes())
        for number, value in enumerate(values):
            visitor.page.fill(f"#feature-{number}", "" if np.isnan(value) else repr(value))
        sees_as_most_probable(visitor, probabilities)
        assert [each for each, _ in shown(visitor).values()] == pytest.approx(probabilities, abs=1e-6)
