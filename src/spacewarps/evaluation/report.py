"""The evaluation of one network: numbers, tables, pictures and a page that holds them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.evaluation import plots
from spacewarps.evaluation.blind_spots import blind_spots
from spacewarps.evaluation.comparison import MOST_FREQUENT, Answered, Baseline, RowSplit, verdict
from spacewarps.evaluation.coverage import PredictionSets, set_metrics
from spacewarps.evaluation.markdown import markdown_text
from spacewarps.evaluation.metrics import classification_metrics, confusion_matrix, roc_curves
from spacewarps.evaluation.settings import BootstrapSettings
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.writing import in_percent, write_text

_MISTAKES_SHOWN = 18


def most_frequent_class(train: Space_Galaxi, test: Space_Galaxi) -> Baseline:
    """Return what knows nothing of a sample: it answers each class's share of training for all of ``test``."""
    counts = np.bincount(train.labels.numpy(), minlength=len(train.classes))
    return Baseline(MOST_FREQUENT, "the most frequent class", np.tile(counts / counts.sum(), (len(test), 1)))


@dataclass(frozen=True)
class SplitEvaluation:
    """What the test split says of a network.

    ``metrics`` is what ``reports/metrics.json`` holds; ``predictions`` has one row a sample.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: list[str]


def evaluate_predictions(
    probabilities: NDArray[np.float64],
    train: Space_Galaxi,
    test: Space_Galaxi,
    *,
    settings: BootstrapSettings,
    seed: int,
    sets: PredictionSets | None = None,
    unusual: Sequence[str] = (),
    baselines: Sequence[Baseline] = (),
    row_split: RowSplit | None = None,
) -> SplitEvaluation:
    """Compare the network's ``probabilities`` on ``test``, ``[N, classes]``, with the labels and the baselines.

    Args:
        probabilities: the network's, ``[N, classes]``.
        train: tells which class is the most frequent.
        test: the samples that were asked for.
        settings: of intervals.
        seed: decides every draw.
        sets: the prediction sets, if there are any.
        unusual: in what each sample is unlike all that the network learned from, nothing where it is not.
        baselines: what the network is compared with.
        row_split: what a split that ignores sources would have claimed, if that was tried.
    """
    labels = test.labels.numpy()
    _, sources = np.unique(test.samples["source"].to_numpy(dtype=str), return_inverse=True)
    answered = Answered(labels, sources, settings, seed)
    predicted, others = probabilities.argmax(axis=1), [most_frequent_class(train, test), *baselines]
    compared = {baseline.name: answered.compare(probabilities, baseline) for baseline in others}
    metrics: dict[str, Any] = {
        "test": {
            **answered.accuracies(predicted, "network"),
            "confidence": settings.confidence,
            **classification_metrics(labels, probabilities, test.classes),
            "samples": len(test),
            "sources": int(sources.max()) + 1,
        },
        "baseline": compared,
    }
    if sets is not None:
        metrics["test"]["sets"] = set_metrics(sets, labels, test.classes, settings.confidence)
    odd = np.array([bool(each) for each in unusual or [""] * len(test)])
    metrics["test"]["unusual"] = {
        "samples": int(odd.sum()),
        "accuracy": float((predicted == labels)[odd].mean()) if odd.any() else None,
    }
    if row_split is not None:
        metrics["row_split"] = row_split.metrics(settings, seed)
    answers = test.samples[["id", "source", "label"]].assign(predicted=[test.classes[p] for p in predicted])
    shares = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in test.classes])
    table = pd.concat([answers, shares], axis=1).assign(unusual=list(unusual) or "")
    return SplitEvaluation(metrics, table, probabilities, labels, test.classes)


def confusion_table(evaluation: SplitEvaluation) -> pd.DataFrame:
    """Return one row a sample, ``actual`` and ``predicted``, as DVC's confusion plot takes it."""
    names = {"label": "actual", "predicted": "predicted"}
    return pd.DataFrame({new: evaluation.predictions[old].map(_as_plotted) for old, new in names.items()})


def roc_table(evaluation: SplitEvaluation) -> pd.DataFrame:
    """Return the ROC of each class against the others on one grid of false positive rates, for DVC's plot."""
    grid = np.linspace(0, 1, 101)
    curves = roc_curves(evaluation.labels, evaluation.probabilities, evaluation.classes)
    points = [
        (_as_plotted(name), *point)
        for name, curve in curves.items()
        for point in zip(grid, np.interp(grid, *curve), strict=True)
    ]
    return pd.DataFrame(points, columns=["class", "false_positive_rate", "true_positive_rate"])


def _as_plotted(name: str) -> str:
    # DVC writes the tables of its plots into a script of its page as they are, and a name could end that script. The
    # single angle quotation mark looks alike and ends nothing.
    return name.replace("<", "\u2039")


def write_report(
    target: Path,
    evaluation: SplitEvaluation,
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
    plots.plot_depth(
        pd.DataFrame(search["candidates"]), target / "depth.png", search.get("decides"), controls_of(search)
    )
    plots.plot_learning_curves(curves, training.get("best_epoch"), target / "learning_curves.png")
    plots.plot_confusion(matrix, evaluation.classes, target / "confusion.png")
    rates = roc_curves(evaluation.labels, evaluation.probabilities, evaluation.classes)
    plots.plot_roc(rates, evaluation.classes, target / "roc.png")
    mistakes = _surest_mistakes(evaluation)
    _plot_mistakes(evaluation, test, mistakes, target / "mistakes.png")
    page = _page(evaluation, search, training)
    write_text(target / "report.md", "\n".join([page, *_mistakes_table(evaluation, test, mistakes), ""]))


def _surest_mistakes(evaluation: SplitEvaluation) -> NDArray[np.int64]:
    """Return which samples were classified wrong with most probability, one of each source."""
    predicted = evaluation.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    ordered = wrong[np.argsort(-evaluation.probabilities[wrong, predicted[wrong]], kind="stable")]
    # The other stamps of a source look the same.
    return ordered[~evaluation.predictions["source"].iloc[ordered].duplicated().to_numpy()][:_MISTAKES_SHOWN]


def _plot_mistakes(evaluation: SplitEvaluation, test: Space_Galaxi, mistakes: NDArray[np.int64], path: Path) -> None:
    predicted = evaluation.probabilities.argmax(axis=1)
    labels = plots.class_labels(evaluation.classes, plots.TITLE_WIDTH)
    titles = [
        f"{number}: {labels[evaluation.labels[i]]}\nas {labels[predicted[i]]}"
        for number, i in enumerate(mistakes, start=1)
    ]
    shown = [test[int(i)].images[: test.image_channels].numpy() for i in mistakes]
    stamps = np.stack(shown) if shown else np.empty((0, 1, 1, 1))
    plots.plot_mistakes(stamps, titles, path)


def _mistakes_table(evaluation: SplitEvaluation, test: Space_Galaxi, mistakes: NDArray[np.int64]) -> list[str]:
    heading = ["number", "id", "class", "predicted", "probability", *map(markdown_text, test.feature_names)]
    rows = [_row(heading), _row(["---"] * len(heading))]
    for number, i in enumerate(mistakes.tolist(), start=1):
        row, values = evaluation.predictions.iloc[i], test.samples.iloc[i]
        names = [markdown_text(row[column]) for column in ("id", "label", "predicted")]
        features = [f"{values[name]:.6g}" for name in test.feature_names]
        rows.append(_row([str(number), *names, f"{evaluation.probabilities[i].max():.2f}", *features]))
    return rows


def _classifiers_table(evaluation: SplitEvaluation) -> list[str]:
    test, baseline = evaluation.metrics["test"], evaluation.metrics["baseline"]
    heading = ["classifier", "accuracy", "interval", "balanced accuracy", "interval", "log loss"]
    rows = [_row(heading), _row(["---"] * len(heading))]
    for name, found in (
        ("the network", test),
        *((each["classifier"], each) for each in baseline.values()),
    ):
        cells = [cell for metric in ("accuracy", "balanced_accuracy") for cell in _with_interval(found, metric)]
        rows.append(_row([name, *cells, f"{found['log_loss']:.4f}"]))
    return rows


def _gains_table(evaluation: SplitEvaluation) -> list[str]:
    """Return by how much the network is better than each baseline."""
    heading = ["the network beside", "gain in accuracy", "interval", "loss saved", "interval", "McNemar's p", "better?"]
    rows = [_row(heading), _row(["---"] * len(heading))]
    for each in evaluation.metrics["baseline"].values():
        gain = each["gain"]
        cells = [cell for metric in ("accuracy", "log_loss") for cell in _with_interval(gain, metric, "+")]
        rows.append(_row([each["classifier"], *cells, f"{gain['mcnemar_p']:.2g}", verdict(gain)]))
    return [*rows, ""]


def unusual_in_words(test: dict[str, Any]) -> str:
    """Return how many test samples are unlike all that the network learned from, and how many of them were right."""
    count = test["unusual"]["samples"]
    if not count:
        return "No test sample is unlike all that the network learned from."
    right = round(count * test["unusual"]["accuracy"])
    return (
        f"{count} of {test['samples']} test samples are unlike all that the network learned from: a feature, or the "
        f"brightness or spread of the stamp, is missing or outside its range. {right} of them are right."
    )


def row_split_in_words(claimed: dict[str, Any]) -> str:
    """Return what a split that ignores sources would have claimed, and why that is no result."""
    return (
        "A split that ignores repeated sources would have claimed an accuracy of "
        f"{claimed['accuracy']:.4f}, interval {claimed['accuracy_low']:.4f} to {claimed['accuracy_high']:.4f}: "
        f"{claimed['samples_of_seen_sources']} of its {claimed['samples']} test samples show sources that it has "
        "learned from. The figures above owe nothing to that."
    )


def _with_interval(found: dict[str, float], metric: str, sign: str = "") -> tuple[str, str]:
    """Return a metric as text, and its interval where it has one."""
    if f"{metric}_low" not in found:
        return f"{found[metric]:{sign}.4f}", ""
    return f"{found[metric]:{sign}.4f}", f"{found[f'{metric}_low']:{sign}.4f} to {found[f'{metric}_high']:{sign}.4f}"


def _classes_table(evaluation: SplitEvaluation) -> list[str]:
    test = evaluation.metrics["test"]
    numbered = plots.are_numbered(evaluation.classes)
    columns = ["class", "test samples", "predicted", "precision", "recall", "average precision"]
    heading = ["in the pictures"] * numbered + columns
    rows = [_row(heading), _row(["---"] * len(heading))]
    predicted = np.bincount(evaluation.probabilities.argmax(axis=1), minlength=len(evaluation.classes))
    for number, (name, answers) in enumerate(zip(evaluation.classes, predicted.tolist(), strict=True), start=1):
        samples = test["support"][name]
        # Of nothing there is no share.
        precision = f"{test['precision'][name]:.4f}" if answers else ""
        recall = f"{test['recall'][name]:.4f}" if samples else ""
        ranked = f"{test['average_precision'][name]:.4f}" if samples else ""
        own = [f"[{number}]"] if numbered else []
        rows.append(_row([*own, markdown_text(name), str(samples), str(answers), precision, recall, ranked]))
    return rows


def _sets_table(sets: dict[str, Any]) -> list[str]:
    heading = ["class", "of its samples, the set holds it in", "interval"]
    rows = [_row(heading), _row(["---"] * len(heading))]
    for name, share in sets["of_class"].items():
        if share is not None:
            interval = f"{sets['of_class_low'][name]:.4f} to {sets['of_class_high'][name]:.4f}"
            rows.append(_row([markdown_text(name), f"{share:.4f}", interval]))
    return rows


def _prediction_sets(sets: dict[str, Any] | None) -> list[str]:
    """Return the section on prediction sets, where there are any."""
    if sets is None:
        return []
    broken = [f"**Not kept for {', '.join(map(markdown_text, sets['broken']))}.**"] if sets["broken"] else []
    return [
        "## Prediction sets",
        "",
        f"All classes that a sample may have: the set is to hold its own in at least {in_percent(sets['promised'])} "
        f"of cases, class by class. Here it has {sets['size']:.2f} classes on average, and holds the right one in "
        f"{sets['coverage']:.1%}.",
        *broken,
        "",
        *_sets_table(sets),
        "",
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def controls_of(search: Mapping[str, Any]) -> dict[int, float]:
    """Return the value of the control of each layer that has one, of what ``reports/search.json`` holds.

    One that diverged has no value.
    """
    decisions = search.get("decisions", [])
    told = [(decision.get("layer"), (decision.get("control") or {}).get("value")) for decision in decisions]
    return {layer: value for layer, value in told if layer is not None and value is not None}


def _decisions(search: dict[str, Any]) -> list[str]:
    """Return a list of what each step came to, where the search knows the noise."""
    if "decisions" not in search:
        return []
    told = [f"- {markdown_text(decision['sentence'])}" for decision in search["decisions"]]
    return ["What each step came to (a difference and its standard error, paired by sample):", "", *told, ""]


def _page(evaluation: SplitEvaluation, search: dict[str, Any], training: dict[str, Any]) -> str:
    test = evaluation.metrics["test"]
    layers = [
        f"| {a['layer']} | {markdown_text(a['kind'])} | {a['k']} | {a['kernel_size']} | {a['val_accuracy']:.4f} |"
        for a in search["architecture"]
    ]
    hidden = [f"- **{sentence}**" for sentence in blind_spots(evaluation.metrics, markdown_text)]
    area = f", ROC area {test['roc_auc']:.4f}" if test["roc_auc"] is not None else ""
    stopped = markdown_text(search["stopped"].replace("_", " "))
    return "\n".join(
        [
            "# Test result",
            "",
            f"Accuracy **{test['accuracy']:.4f}**, {in_percent(test['confidence'])} interval "
            f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f}; balanced accuracy "
            f"**{test['balanced_accuracy']:.4f}**, interval "
            f"{test['balanced_accuracy_low']:.4f} to {test['balanced_accuracy_high']:.4f} "
            f"(bootstrap over {test['sources']} sources, {test['samples']} samples). "
            f"Macro F1 {test['macro_f1']:.4f}, log loss {test['log_loss']:.4f}, expected calibration error "
            f"{test['ece']:.4f}{area}.",
            "",
            *([*hidden, ""] if hidden else []),
            *_classifiers_table(evaluation),
            "",
            *_gains_table(evaluation),
            *([row_split_in_words(claimed), ""] if (claimed := evaluation.metrics.get("row_split")) else []),
            *_classes_table(evaluation),
            "",
            "![confusion matrix](confusion.png)",
            "![ROC](roc.png)",
            "",
            *_prediction_sets(test.get("sets")),
            "## The network",
            "",
            f"{search['num_layers']} blocks, {search['total_trainable_params']:,} parameters; the search ended with "
            f"validation accuracy {search['final_val_accuracy']:.4f} ({stopped}), {final_training_in_words(training)}",
            "",
            "| layer | kind | k | kernel size | validation accuracy |",
            "| --- | --- | --- | --- | --- |",
            *layers,
            "",
            *_decisions(search),
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


def final_training_in_words(training: Mapping[str, Any]) -> str:
    """Return how the final network was trained, as the end of a sentence, and how it answers."""
    data, epochs = training.get("data", "train"), training["epochs"]
    if data == "train":
        told = (
            f"the final training kept epoch {training['best_epoch']} of {epochs} with {training['val_accuracy']:.4f}."
        )
    elif data == "folds":
        told = (
            f"the final network is the mean of {training['networks']}, each trained for {epochs} epochs without one "
            f"part of the training and validation splits; on the parts that they did not learn from, their accuracy is "
            f"{training['val_accuracy']:.4f}."
        )
    else:
        told = f"the final network learned from the training and validation splits together, for {epochs} epochs."
    if training.get("orientations") is not None:
        told += f" It answers with the mean over {training['orientations']} orientations of a stamp."
    if training.get("temperature") is not None:
        told += f" Its logits are divided by a temperature of {training['temperature']:.3f}."
    return told
