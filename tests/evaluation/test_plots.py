import warnings
from contextlib import nullcontext
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spacewarps.evaluation import plots

GALAXIES = [f"Barred spiral galaxy with a tidal tail of kind {number}" for number in range(10)]


def draw_all(classes: list[str], folder: Path) -> dict[str, tuple[int, int]]:
    """Draw every picture that names classes, where any warning is an error; return their sizes."""
    number = len(classes)
    rate = np.linspace(0, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_confusion(np.eye(number, dtype=np.int64) * 12345, classes, folder / "confusion.png")
        plots.plot_roc(dict.fromkeys(classes, (rate, rate**0.5)), classes, folder / "roc.png")
        titles = [f"{n}: {label}" for n, label in enumerate(plots.class_labels(classes, plots.TITLE_WIDTH)[:18], 1)]
        plots.plot_mistakes(np.zeros((len(titles), 1, 8, 8)), titles, folder / "mistakes.png")
    sizes = {}
    for name in ("confusion", "roc", "mistakes"):
        with Image.open(folder / f"{name}.png") as image:
            sizes[name] = image.size
    return sizes


@pytest.mark.parametrize(
    "classes",
    [
        ["GALAXY", "QSO", "STAR"],
        GALAXIES,
        [str(number) for number in range(40)],
        GALAXIES * 5,
        ["星系", "$\\frac{", "^_{", "_hidden", "x\u202ey", "גלקסיה"],
    ],
    ids=["three", "ten long", "forty", "fifty long", "letters of all kinds"],
)
def test_pictures_of_any_classes_are_drawn_without_a_warning(classes: list[str], tmp_path: Path) -> None:
    distinct = [f"{name}{number}" if classes.count(name) > 1 else name for number, name in enumerate(classes)]
    draw_all(distinct, tmp_path)


def test_the_confusion_matrix_grows_with_the_classes(tmp_path: Path) -> None:
    sizes = [draw_all([str(n) for n in range(number)], tmp_path)["confusion"] for number in (2, 10, 40)]
    assert sizes[0] == (770, 550)
    assert sizes[0] < sizes[1] < sizes[2]


def test_short_names_stand_as_they_are() -> None:
    assert plots.class_labels(["GALAXY", "QSO"], 1.0) == ["GALAXY", "QSO"]
    assert not plots.are_numbered([str(number) for number in range(100)])


def test_long_names_are_numbered_and_cut_and_never_collide() -> None:
    for width in (plots.TITLE_WIDTH, plots.LABEL_WIDTH):
        labels = plots.class_labels(GALAXIES, width)
        assert len(set(labels)) == len(GALAXIES)
        assert all(label.startswith(f"[{number}] Barr") for number, label in enumerate(labels, 1))
        assert all(label.endswith("…") for label in labels)
    assert plots.class_labels([*GALAXIES, "QSO"], plots.LABEL_WIDTH)[-1] == "[11] QSO"


def test_a_name_of_any_length_is_cut_to_the_room() -> None:
    assert plots.class_labels(["i" * 100_000, "b"], 1.0) == ["[1] iiiiiiiiiiiiiiii…", "[2] b"]


def test_a_name_that_the_font_cannot_draw_is_its_number() -> None:
    assert plots.class_labels(["星系", "STAR", "a\u202eb"], 3.0) == ["[1]", "[2] STAR", "[3]"]


def test_names_with_dollars_and_underscores_stand_in_the_legend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    rate = np.array([0.0, 1.0])
    classes = ["_hidden", "a$b$", "chance"]
    plots.plot_roc(dict.fromkeys(classes, (rate, rate)), classes, tmp_path / "roc.png")
    texts = drawn[0].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["_hidden", "a$b$", "chance", "chance"]
    assert not any(text.get_parse_math() for text in texts)


def test_of_many_curves_the_lowest_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    rate = np.linspace(0, 1, 11)
    curves = {str(number): (rate, rate ** (1 / (number + 1))) for number in range(13)}
    plots.plot_roc(curves, list(curves), tmp_path / "roc.png")
    texts = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
    assert texts == ["every class", "mean", "0", "1", "2", "3", "4", "5", "chance"]


def test_settings_of_the_user_change_no_picture(tmp_path: Path) -> None:
    pictures = []
    for changes in (nullcontext(), matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "figure.dpi": 30})):
        with changes:
            draw_all(["a", "b"], tmp_path)
        pictures.append([(tmp_path / f"{name}.png").read_bytes() for name in ("confusion", "roc", "mistakes")])
    assert pictures[0] == pictures[1]


def test_a_control_is_a_line_beside_the_candidates_of_its_layer(tmp_path: Path) -> None:
    row = {"kind": "conv", "val_accuracy": 0.5, "value": 0.5, "error": 0.1, "chosen": True}
    table = pd.DataFrame([{**row, "layer": layer, "k": k} for layer in (1, 2) for k in (4, 8)])
    pictures = []
    for controls in (None, {}, {2: 0.4}, {2: 0.45}):
        plots.plot_depth(table, tmp_path / "depth.png", "loss", controls)
        pictures.append((tmp_path / "depth.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


def test_many_candidates_of_a_layer_are_drawn_in_a_taller_picture(tmp_path: Path) -> None:
    rows = [
        {"layer": 1, "kind": kind, "k": k, "val_accuracy": 0.5, "chosen": k == 4 and kind == "conv"}
        for kind in ("conv", "residual", "separable", "bottleneck")
        for k in range(4, 44, 4)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_depth(pd.DataFrame(rows), tmp_path / "depth.png")
    with Image.open(tmp_path / "depth.png") as image:
        assert image.size[1] > 1000
