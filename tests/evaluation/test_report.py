import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from markdown_it import MarkdownIt
from PIL import Image

from spacewarps.errors import ModelError
from spacewarps.evaluation import plots
from spacewarps.evaluation.comparison import Baseline
from spacewarps.evaluation.report import (
    SplitEvaluation,
    confusion_table,
    evaluate_predictions,
    most_frequent_class,
    roc_table,
    unusual_in_words,
    write_report,
)
from spacewarps.evaluation.settings import BootstrapSettings
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey

PICTURES = ["confusion.png", "depth.png", "learning_curves.png", "mistakes.png", "roc.png"]


def logits_of(data: Space_Galaxi, *, noise: float = 2.5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    right = torch.nn.functional.one_hot(data.labels, len(data.classes)) * 3.0
    return right + noise * torch.randn(right.shape, generator=generator)


def evaluate(
    train: Space_Galaxi,
    test: Space_Galaxi,
    logits: torch.Tensor | None = None,
    seed: int = 1,
    unusual: Sequence[str] = (),
) -> SplitEvaluation:
    given = (logits_of(test) if logits is None else logits).double().softmax(dim=1).numpy()
    guesses = logits_of(test, noise=6.0, seed=5).double().softmax(dim=1).numpy()
    return evaluate_predictions(
        given,
        train,
        test,
        settings=BootstrapSettings(200, 0.9),
        seed=seed,
        unusual=unusual,
        baselines=[Baseline("guesses", "a guesser", guesses)],
    )


def candidate(layer: int, k: int, accuracy: float, chosen: bool) -> dict[str, Any]:
    return {"layer": layer, "kind": "conv", "k": k, "val_accuracy": accuracy, "chosen": chosen}


SEARCH: dict[str, Any] = {
    "final_val_accuracy": 0.75,
    "num_layers": 1,
    "total_trainable_params": 12345,
    "stopped": "no gain",
    "architecture": [{"layer": 1, "kind": "conv", "k": 16, "kernel_size": 5, "val_accuracy": 0.75}],
    "candidates": [candidate(1, 8, 0.5, False), candidate(1, 16, 0.75, True), candidate(2, 8, 0.7, False)],
}
TRAINING = {"best_epoch": 2, "epochs": 3, "val_accuracy": 0.8}
CURVES = pd.DataFrame(
    {"epoch": [1, 2, 3], "train_loss": [1.0, 0.8, 0.7], "val_loss": [1.0, 0.9, 0.95], "val_accuracy": [0.6, 0.8, 0.7]}
)


def write(folder: Path, evaluation: SplitEvaluation, test: Space_Galaxi, **changes: Any) -> str:
    folder.mkdir()
    settings: dict[str, Any] = {"search": SEARCH, "training": TRAINING, "curves": CURVES}
    write_report(folder, evaluation, test, **(settings | changes))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*PICTURES, "report.md"])
    for name in PICTURES:
        with Image.open(folder / name) as image:
            image.verify()
    return (folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evaluation(train_data: Space_Galaxi, test_data: Space_Galaxi) -> SplitEvaluation:
    return evaluate(train_data, test_data)


def test_the_report_names_what_each_block_is(
    evaluation: SplitEvaluation, test_data: Space_Galaxi, tmp_path: Path
) -> None:
    page = write(tmp_path / "report", evaluation, test_data)
    table = page[page.index("| layer | kind | k | kernel size | validation accuracy |") :].splitlines()
    assert table[2] == "| 1 | conv | 16 | 5 | 0.7500 |"


def test_candidates_of_several_kinds_are_drawn_apart(tmp_path: Path) -> None:
    rows = [candidate(1, k, 0.5 + k / 100, k == 16) for k in (8, 16)]
    pictures = []
    for kinds in (("conv", "conv"), ("conv", "residual")):
        table = pd.DataFrame([{**row, "kind": kind} for row, kind in zip(rows, kinds, strict=True)])
        plots.plot_depth(table, tmp_path / "depth.png")
        pictures.append((tmp_path / "depth.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_the_numbers_are_those_of_the_network(evaluation: SplitEvaluation, test_data: Space_Galaxi) -> None:
    test = evaluation.metrics["test"]
    right = logits_of(test_data).argmax(dim=1) == test_data.labels
    assert test["accuracy"] == pytest.approx(right.double().mean().item())
    assert test["accuracy_low"] < test["accuracy"] < test["accuracy_high"]
    assert (test["samples"], test["sources"], test["confidence"]) == (30, 15, 0.9)


def test_predictions_have_a_row_for_each_sample(evaluation: SplitEvaluation, test_data: Space_Galaxi) -> None:
    table = evaluation.predictions
    assert list(table.columns) == ["id", "source", "label", "predicted", "p_GALAXY", "p_QSO", "p_STAR", "unusual"]
    assert table["id"].tolist() == test_data.samples["id"].tolist()
    assert table.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(np.ones(30))
    assert (table.filter(like="p_").idxmax(axis=1) == "p_" + table["predicted"]).all()


def test_the_tables_of_the_plots(evaluation: SplitEvaluation) -> None:
    table = confusion_table(evaluation)
    assert list(table.columns) == ["actual", "predicted"]
    assert (table["actual"] == table["predicted"]).mean() == pytest.approx(evaluation.metrics["test"]["accuracy"])
    roc = roc_table(evaluation)
    assert list(roc.columns) == ["class", "false_positive_rate", "true_positive_rate"]
    assert roc["class"].unique().tolist() == evaluation.classes
    areas = []
    for _, curve in roc.groupby("class"):
        assert len(curve) == 101
        assert curve["true_positive_rate"].is_monotonic_increasing
        assert curve["true_positive_rate"].iloc[-1] == 1
        areas.append(np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"]))
    assert np.mean(areas) == pytest.approx(evaluation.metrics["test"]["roc_auc"], abs=0.02)


def test_the_seed_alone_decides_the_intervals(
    evaluation: SplitEvaluation, train_data: Space_Galaxi, test_data: Space_Galaxi
) -> None:
    assert evaluate(train_data, test_data).metrics == evaluation.metrics
    assert evaluate(train_data, test_data, seed=2).metrics != evaluation.metrics


def test_the_report_has_the_same_bytes_every_time(
    evaluation: SplitEvaluation, test_data: Space_Galaxi, tmp_path: Path
) -> None:
    page = write(tmp_path / "one", evaluation, test_data)
    write(tmp_path / "two", evaluation, test_data)
    for name in [*PICTURES, "report.md"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert f"Accuracy **{evaluation.metrics['test']['accuracy']:.4f}**" in page
    assert "bootstrap over 15 sources, 30 samples" in page
    assert "(no gain), the final training kept epoch 2 of 3 with 0.8000" in page
    assert all(f"({name})" in page for name in PICTURES)
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    ("training", "told"),
    [
        (
            {"data": "train_and_validation", "networks": 1, "epochs": 3},
            "(no gain), the final network learned from the training and validation splits together, for 3 epochs.\n",
        ),
        (
            {"data": "folds", "networks": 5, "epochs": 3, "val_accuracy": 0.75, "temperature": 1.25},
            "(no gain), the final network is the mean of 5, each trained for 3 epochs without one part of the training "
            "and validation splits; on the parts that they did not learn from, their accuracy is 0.7500. "
            "Its logits are divided by a temperature of 1.250.\n",
        ),
        (
            TRAINING | {"orientations": 8, "temperature": None},
            "(no gain), the final training kept epoch 2 of 3 with 0.8000. It answers with the mean over 8 orientations "
            "of a stamp.\n",
        ),
    ],
)
def test_the_report_says_how_the_final_network_was_trained(
    evaluation: SplitEvaluation, test_data: Space_Galaxi, tmp_path: Path, training: dict[str, Any], told: str
) -> None:
    curves = CURVES if "val_accuracy" in training else CURVES.assign(val_loss=np.nan, val_accuracy=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write(tmp_path / "report", evaluation, test_data, training=training, curves=curves)
    assert told in page


def test_curves_without_validation_are_those_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    plots.plot_learning_curves(CURVES, 2, tmp_path / "curves.png")
    plots.plot_learning_curves(CURVES.assign(val_loss=np.nan, val_accuracy=np.nan), None, tmp_path / "curves.png")
    shown = [[text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in drawn]
    assert shown == [
        ["training loss (smoothed labels)", "validation loss", "kept: epoch 2", "validation accuracy"],
        ["training loss (smoothed labels)"],
    ]
    assert len(drawn[1].axes) == 1


def test_the_report_shows_calibration_and_average_precision(
    evaluation: SplitEvaluation, test_data: Space_Galaxi, tmp_path: Path
) -> None:
    page, test = write(tmp_path / "report", evaluation, test_data), evaluation.metrics["test"]
    assert f", expected calibration error {test['ece']:.4f}, ROC area {test['roc_auc']:.4f}.\n" in page
    assert "| class | test samples | predicted | precision | recall | average precision |" in page
    assert f"| {test['recall']['QSO']:.4f} | {test['average_precision']['QSO']:.4f} |" in page


def test_hundreds_of_classes_are_evaluated_without_a_warning(draw_survey: Callable[..., PreparedSurvey]) -> None:
    classes = tuple(f"c{number}" for number in range(150))
    survey = draw_survey(classes=classes, features=(), sizes={"train": 300, "test": 300})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test"))
    assert list(result.predictions.columns[4:-1]) == [f"p_{name}" for name in classes]


def test_the_most_frequent_class_is_that_of_training(draw_survey: Callable[..., PreparedSurvey]) -> None:
    survey = draw_survey()
    of_training = (survey.samples["split"] == "train").to_numpy()
    survey.samples.loc[of_training & (np.arange(len(of_training)) % 3 == 0), "label"] = "STAR"
    survey.samples.loc[~of_training, "label"] = "QSO"
    train, test = (Space_Galaxi(survey, split=split) for split in ("train", "test"))
    answers = most_frequent_class(train, test).probabilities
    assert answers.argmax(axis=1).tolist() == [2] * len(test)
    assert answers[0].tolist() == (np.bincount(train.labels.numpy()) / len(train)).tolist()


def test_samples_unlike_all_that_was_learned_from_are_told_and_counted(
    train_data: Space_Galaxi, test_data: Space_Galaxi
) -> None:
    logits = logits_of(test_data, noise=0.0)
    logits[0] = logits[0].flip(0) - logits[0]
    odd = ["z missing", "z above", *[""] * (len(test_data) - 2)]
    result = evaluate(train_data, test_data, logits, unusual=odd)
    assert result.metrics["test"]["unusual"] == {"samples": 2, "accuracy": 0.5}
    assert result.predictions["unusual"].tolist() == odd
    said = unusual_in_words(result.metrics["test"])
    assert said.startswith("2 of 30 test samples are unlike all")
    assert said.endswith(" 1 of them are right.")
    none = evaluate(train_data, test_data, logits)
    assert none.metrics["test"]["unusual"] == {"samples": 0, "accuracy": None}
    assert unusual_in_words(none.metrics["test"]).startswith("No test sample is unlike")


def test_the_page_says_where_the_network_is_not_better(
    train_data: Space_Galaxi, test_data: Space_Galaxi, tmp_path: Path
) -> None:
    better = write(tmp_path / "better", evaluate(train_data, test_data, logits_of(test_data, noise=0.0)), test_data)
    [row] = [line for line in better.splitlines() if line.startswith("| a guesser | +")]
    assert row.endswith("| yes, beyond noise |")
    assert "better beyond noise than" not in better
    worse = write(tmp_path / "worse", evaluate(train_data, test_data, logits_of(test_data, noise=60.0)), test_data)
    [row] = [line for line in worse.splitlines() if line.startswith("| a guesser | -")]
    assert row.endswith("| no, it is worse beyond noise |")
    assert "- **accuracy not better beyond noise than that of a guesser, " in worse


def test_a_test_split_that_lacks_a_class_and_a_perfect_network_are_reported(
    draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    survey = draw_survey(features=(), channels=3)
    survey.samples.loc[(survey.samples["split"] == "test") & (survey.samples["label"] == "QSO"), "label"] = "STAR"
    train, test = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")
    result = evaluate(train, test, logits_of(test, noise=0.0))
    assert result.metrics["test"]["accuracy"] == 1.0
    assert (result.metrics["test"]["accuracy_low"], result.metrics["test"]["accuracy_high"]) == (1.0, 1.0)
    assert result.metrics["test"]["macro_f1"] == 1.0
    page = write(tmp_path / "report", result, test)
    assert "- **without a test sample, so not measured: QSO**" in page
    assert "| QSO | 0 | 0 |  |  |  |" in page
    assert result.metrics["test"]["average_precision"] == {"GALAXY": 1.0, "QSO": None, "STAR": 1.0}


def test_a_split_of_one_class_is_reported(draw_survey: Callable[..., PreparedSurvey], tmp_path: Path) -> None:
    survey = draw_survey(classes=("a", "b"), dtype="float32")
    survey.samples.loc[survey.samples["split"] == "test", "label"] = "b"
    train, test = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")
    result = evaluate(train, test)
    assert result.metrics["test"]["roc_auc"] is None
    assert len(roc_table(result)) == 0
    assert "ROC area" not in write(tmp_path / "report", result, test)


def test_names_of_classes_that_look_like_formulas_are_drawn_as_they_are(
    draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    survey = draw_survey(classes=("$\\frac$", "b_$x", "a|b"))
    train, test = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")
    page = write(tmp_path / "report", evaluate(train, test), test)
    assert "| a&#124;b | 10 |" in page


def test_no_name_from_outside_makes_an_element_of_the_page(
    draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    script = "<script>alert(1)</script>"
    survey = draw_survey(classes=(script, "![a](b)", "`c`|d"), features=("<b>z</b>",))
    survey.samples["id"] = [f"<i>{number}</i>" for number in range(len(survey.samples))]
    train, test = Space_Galaxi(survey, split="train"), Space_Galaxi(survey, split="test")
    result = evaluate(train, test, torch.zeros(len(test), 3))
    search = SEARCH | {"stopped": script, "architecture": [{**SEARCH["architecture"][0], "kind": script}]}
    page = write(tmp_path / "report", result, test, search=search)
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = [part for token in reader.parse(page) for part in (token, *(token.children or []))]
    assert {token.type for token in tokens if "html" in token.type or "code" in token.type} == set()
    assert [token.attrGet("src") for token in tokens if token.type == "image"] == [
        "confusion.png",
        "roc.png",
        "depth.png",
        "learning_curves.png",
        "mistakes.png",
    ]
    assert script not in confusion_table(result).to_csv()
    assert script not in roc_table(result).to_csv()
    # What machines read has the names as they are.
    assert set(result.predictions["label"]) == set(survey.classes)


def test_a_class_that_is_never_predicted_stands_above_the_tables(
    train_data: Space_Galaxi, test_data: Space_Galaxi, tmp_path: Path
) -> None:
    logits = logits_of(test_data, noise=0.0)
    logits[:, 1] = -10.0
    result = evaluate(train_data, test_data, logits)
    page = write(tmp_path / "report", result, test_data)
    assert result.metrics["test"]["never_predicted"] == ["QSO"]
    said = "- **never predicted: QSO (10 of 30 test samples); accuracy 0.6667, balanced accuracy 0.6667**"
    assert page.index(said) < page.index("| classifier |")
    assert "| QSO | 10 | 0 |  | 0.0000 |" in page


def test_balanced_accuracy_stands_beside_every_accuracy(evaluation: SplitEvaluation) -> None:
    test, baseline = evaluation.metrics["test"], evaluation.metrics["baseline"]
    assert test["balanced_accuracy_low"] < test["balanced_accuracy"] < test["balanced_accuracy_high"]
    frequent = baseline["most_frequent_class"]
    assert frequent["balanced_accuracy"] == pytest.approx(1 / 3)
    assert frequent["accuracy_low"] < frequent["accuracy"] < frequent["accuracy_high"]
    assert frequent["gain"]["accuracy"] == test["accuracy"] - frequent["accuracy"]
    gain = test["balanced_accuracy"] - baseline["guesses"]["balanced_accuracy"]
    assert baseline["guesses"]["gain"]["balanced_accuracy"] == gain


@pytest.mark.parametrize("losses", [[1.0, np.inf, np.nan], [np.inf] * 3])
def test_losses_that_diverged_are_drawn_around(losses: list[float], tmp_path: Path) -> None:
    plots.plot_learning_curves(CURVES.assign(train_loss=losses, val_loss=losses), 2, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        image.verify()


def test_outputs_that_diverged_are_said_in_one_line(train_data: Space_Galaxi, test_data: Space_Galaxi) -> None:
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ModelError, match="training diverged"):
            evaluate(train_data, test_data, torch.full((len(test_data), 3), bad))
