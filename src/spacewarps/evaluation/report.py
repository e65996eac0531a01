"""The evaluation of one network: numbers, tables, pictures and a page that holds them together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spacewarps.evaluation import baselines, plots
from spacewarps.evaluation.bootstrap import accuracy_interval, difference_interval
from spacewarps.evaluation.metrics import classification_metrics, confusion_matrix, roc_curves
from spacewarps.files import write_text
from spacewarps.seeds import derive_seed, numpy_generator
from spacewarps.survey.dataset import Space_Galaxi

_MISTAKES_SHOWN = 18


@dataclass(frozen=True)
class Evaluation:
    """What the test split says of a network.

    ``metrics`` is what ``reports/metrics.json`` holds; ``predictions`` has one row a sample.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: list[str]


def evaluate_predictions(
    logits: torch.Tensor, train: Space_Galaxi, test: Space_Galaxi, *, resamples: int, confidence: float, seed: int
) -> Evaluation:
    """Compare the network's ``logits`` on ``test`` (``[N, classes]``) with the labels, and with the baselines."""
    probabilities = logits.double().softmax(dim=1).numpy()
    labels = test.labels.numpy()
    predicted = probabilities.argmax(axis=1)
    _, sources = np.unique(test.samples["source"].to_numpy(dtype=str), return_inverse=True)
    scores = classification_metrics(labels, probabilities, test.classes)

    def interval(right: NDArray[np.bool_], name: str) -> dict[str, float]:
        low, high = accuracy_interval(
            right,
            sources,
            resamples=resamples,
            confidence=confidence,
            generator=numpy_generator(seed, "bootstrap", name),
        )
        return {"accuracy_low": low, "accuracy_high": high}

    frequent = baselines.most_frequent_class(train, test) == labels
    compared: dict[str, Any] = {"most_frequent_class": {"accuracy": float(frequent.mean())}}
    if test.feature_names:
        boosted = baselines.features_alone(train, test, derive_seed(seed, "baseline")) == labels
        low, high = difference_interval(
            predicted == labels,
            boosted,
            sources,
            resamples=resamples,
            confidence=confidence,
            generator=numpy_generator(seed, "bootstrap", "gain"),
        )
        compared["features_alone"] = {"accuracy": float(boosted.mean()), **interval(boosted, "features alone")}
        compared["gain_over_features_alone"] = {
            "accuracy": float((predicted == labels).mean() - boosted.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
        }
    metrics = {
        "test": {
            "accuracy": scores.pop("accuracy"),
            **interval(predicted == labels, "network"),
            "confidence": confidence,
            **scores,
            "samples": len(test),
            "sources": int(sources.max()) + 1,
        },
        "baseline": compared,
    }
    predictions = test.samples[["id", "source", "label"]].assign(predicted=[test.classes[p] for p in predicted])
    for number, name in enumerate(test.classes):
        predictions[f"p_{name}"] = probabilities[:, number]
    return Evaluation(metrics, predictions, probabilities, labels, test.classes)


def confusion_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a sample, ``actual`` and ``predicted``, as DVC's confusion plot takes it."""
    return evaluation.predictions[["label", "predicted"]].rename(columns={"label": "actual"})


def roc_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return the ROC of each class against the others on one grid of false positive rates, for DVC's plot."""
    grid = np.linspace(0, 1, 101)
    curves = roc_curves(evaluation.labels, evaluation.probabilities, evaluation.classes)
    points = [
        (name, *point) for name, curve in curves.items() for point in zip(grid, np.interp(grid, *curve), strict=True)
    ]
    return pd.DataFrame(points, columns=["class", "false_positive_rate", "true_positive_rate"])


def write_report(
    target: Path,
    evaluation: Evaluation,
    test: Space_Galaxi,
    *,
    search: dict[str, Any],
    training: dict[str, Any],
    curves: pd.DataFrame,
) -> None:
    """Write ``report.md`` and its pictures to the folder ``target``.

    Args:
        target: an existing folder.
        evaluation: what the test split said.
        test: its samples.
        search: what ``reports/search.json`` holds.
        training: what ``reports/training.json`` holds.
        curves: the final training's epochs.
    """
    matrix = confusion_matrix(evaluation.labels, evaluation.probabilities.argmax(axis=1), evaluation.classes)
    plots.plot_depth(pd.DataFrame(search["candidates"]), target / "depth.png")
    plots.plot_learning_curves(curves, training["best_epoch"], target / "learning_curves.png")
    plots.plot_confusion(matrix, evaluation.classes, target / "confusion.png")
    plots.plot_roc(roc_curves(evaluation.labels, evaluation.probabilities, evaluation.classes), target / "roc.png")
    mistakes = _surest_mistakes(evaluation)
    _plot_mistakes(evaluation, test, mistakes, target / "mistakes.png")
    page = _page(evaluation, search, training)
    heading = ["number", "id", "class", "predicted", "probability", *test.feature_names]
    table = [f"| {' | '.join(heading)} |", "|" + " --- |" * len(heading), *_mistake_rows(evaluation, test, mistakes)]
    write_text(target / "report.md", "\n".join([page, *table, ""]))


def _surest_mistakes(evaluation: Evaluation) -> NDArray[np.int64]:
    """Return which samples were classified wrong with most probability, one of each source."""
    predicted = evaluation.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    ordered = wrong[np.argsort(-evaluation.probabilities[wrong, predicted[wrong]], kind="stable")]
    # The other stamps of a source look the same.
    return ordered[~evaluation.predictions["source"].iloc[ordered].duplicated().to_numpy()][:_MISTAKES_SHOWN]


def _plot_mistakes(evaluation: Evaluation, test: Space_Galaxi, mistakes: NDArray[np.int64], path: Path) -> None:
    predicted = evaluation.probabilities.argmax(axis=1)
    titles = [
        f"{number}: {evaluation.classes[evaluation.labels[i]]}\nas {evaluation.classes[predicted[i]]}"
        for number, i in enumerate(mistakes, start=1)
    ]
    stamps = np.stack([test[int(i)].images.numpy() for i in mistakes]) if len(mistakes) else np.empty((0, 1, 1, 1))
    plots.plot_mistakes(stamps, titles, path)


def _mistake_rows(evaluation: Evaluation, test: Space_Galaxi, mistakes: NDArray[np.int64]) -> list[str]:
    rows = []
    for number, i in enumerate(mistakes.tolist(), start=1):
        row, values = evaluation.predictions.iloc[i], test.samples.iloc[i]
        cells = [str(number), row["id"], row["label"], row["predicted"], f"{evaluation.probabilities[i].max():.2f}"]
        cells += [f"{values[name]:.6g}" for name in test.feature_names]
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return rows


def _page(evaluation: Evaluation, search: dict[str, Any], training: dict[str, Any]) -> str:
    test, baseline = evaluation.metrics["test"], evaluation.metrics["baseline"]
    layers = [
        f"| {a['layer']} | {a['kind']} | {a['k']} | {a['kernel_size']} | {a['val_accuracy']:.4f} |"
        for a in search["architecture"]
    ]
    classes = [
        f"| {cell} | {test['precision'][name]:.4f} | {test['recall'][name]:.4f} |"
        for name in evaluation.classes
        # A bar in a class's name would end its cell.
        for cell in [name.replace("|", r"\|")]
    ]
    against = [f"| the most frequent class | {baseline['most_frequent_class']['accuracy']:.4f} | |"]
    if "features_alone" in baseline:
        alone, gain = baseline["features_alone"], baseline["gain_over_features_alone"]
        against += [
            f"| gradient boosting on the features alone | {alone['accuracy']:.4f} "
            f"| {alone['accuracy_low']:.4f} to {alone['accuracy_high']:.4f} |",
            f"| gain of the network over it | {gain['accuracy']:+.4f} "
            f"| {gain['accuracy_low']:+.4f} to {gain['accuracy_high']:+.4f} |",
        ]
    area = f" ROC area {test['roc_auc']:.4f}." if test["roc_auc"] is not None else ""
    return "\n".join(
        [
            "# Test result",
            "",
            f"Accuracy **{test['accuracy']:.4f}**, {test['confidence']:.0%} interval {test['accuracy_low']:.4f} to "
            f"{test['accuracy_high']:.4f} (bootstrap over {test['sources']} sources, {test['samples']} samples). "
            f"Balanced accuracy {test['balanced_accuracy']:.4f}, macro F1 {test['macro_f1']:.4f}, "
            f"log loss {test['log_loss']:.4f}.{area}",
            "",
            "| classifier | accuracy | interval |",
            "| --- | --- | --- |",
            f"| the network | {test['accuracy']:.4f} | {test['accuracy_low']:.4f} to {test['accuracy_high']:.4f} |",
            *against,
            "",
            "| class | precision | recall |",
            "| --- | --- | --- |",
            *classes,
            "",
            "![confusion matrix](confusion.png)",
            "![ROC](roc.png)",
            "",
            "## The network",
            "",
            f"{search['num_layers']} blocks, {search['total_trainable_params']:,} weights; the search ended with "
            f"validation accuracy {search['final_val_accuracy']:.4f} ({search['stopped'].replace('_', ' ')}), the "
            f"final training kept epoch {training['best_epoch']} of {training['epochs']} with "
            f"{training['val_accuracy']:.4f}.",
            "",
            "| layer | kind | k | kernel size | validation accuracy |",
            "| --- | --- | --- | --- | --- |",
            *layers,
            "",
            "![accuracy over depth](depth.png)",
            "![learning curves](learning_curves.png)",
            "",
            "## Mistakes it is surest of",
            "",
            "One stamp of each source, by the probability that the network gave to the wrong class.",
            "",
            "![mistakes](mistakes.png)",
            "",
        ]
    )
