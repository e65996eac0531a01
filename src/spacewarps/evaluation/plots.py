"""Pictures for people: the same bytes for the same numbers."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

# Okabe & Ito's colours, told apart by nearly everyone (Color Universal Design, 2008).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P"]


def plot_depth(candidates: pd.DataFrame, path: Path) -> None:
    """Draw validation accuracy over depth, every candidate a point, the chosen ones joined by a line.

    Args:
        candidates: one row each, with ``layer``, ``kind``, ``k``, ``val_accuracy`` and ``chosen``.
        path: the PNG to write.
    """
    figure, axes = _figure("Validation accuracy as the network grows", "layer", "validation accuracy")
    ks = sorted(candidates["k"].unique())
    # Candidates of one layer stand side by side, in the order of k, so that equal scores do not hide each other.
    beside = {k: 0.3 * (position - (len(ks) - 1) / 2) / max(1, len(ks) - 1) for position, k in enumerate(ks)}
    places = candidates["layer"] + candidates["k"].map(beside)
    kinds = list(candidates["kind"].unique())
    for position, k in enumerate(ks):
        for number, kind in enumerate(kinds):
            rows = (candidates["k"] == k) & (candidates["kind"] == kind)
            if rows.any():
                axes.scatter(
                    places[rows],
                    candidates["val_accuracy"][rows],
                    color=COLOURS[position % len(COLOURS)],
                    marker=MARKERS[number % len(MARKERS)],
                    label=f"k = {k}" if len(kinds) == 1 else f"{kind}, k = {k}",
                    zorder=3,
                )
    chosen = candidates["chosen"]
    axes.plot(
        places[chosen],
        candidates["val_accuracy"][chosen],
        color="black",
        linewidth=1,
        marker="o",
        markersize=12,
        markerfacecolor="none",
        label="joined",
        zorder=2,
    )
    axes.set_xticks(sorted(candidates["layer"].unique()))
    _legend_beside(axes)
    _save(figure, path)


def plot_learning_curves(epochs: pd.DataFrame, best_epoch: int, path: Path) -> None:
    """Draw the final training: losses, and validation accuracy on an axis of its own.

    Args:
        epochs: one row each, with ``epoch``, ``train_loss``, ``val_loss`` and ``val_accuracy``.
        best_epoch: the epoch whose weights were kept.
        path: the PNG to write.
    """
    figure, axes = _figure("Final training", "epoch", "cross-entropy")
    axes.plot(epochs["epoch"], epochs["train_loss"], color=COLOURS[0], label="training loss (smoothed labels)")
    axes.plot(epochs["epoch"], epochs["val_loss"], color=COLOURS[1], label="validation loss")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right = axes.twinx()
    right.plot(epochs["epoch"], epochs["val_accuracy"], color=COLOURS[2], linestyle="--", label="validation accuracy")
    right.set_ylabel("accuracy")
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
    _save(figure, path)


def plot_confusion(matrix: NDArray[np.int64], classes: list[str], path: Path) -> None:
    """Draw the confusion matrix: counts, over the share of the actual class that they are.

    Args:
        matrix: counts ``[actual, predicted]``.
        classes: the classes' names.
        path: the PNG to write.
    """
    figure, axes = _figure("Test split", "predicted", "actual")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        axes.text(
            column,
            row,
            f"{matrix[row, column]}\n{shares[row, column]:.1%}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )
    names = [_literal(name) for name in classes]
    axes.set_xticks(range(len(classes)), names)
    axes.set_yticks(range(len(classes)), names)
    axes.grid(visible=False)
    _save(figure, path)


def plot_roc(curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], path: Path) -> None:
    """Draw the receiver operating characteristic of each class against the others.

    Args:
        curves: false and true positive rates by class.
        path: the PNG to write.
    """
    figure, axes = _figure("Each class against the others, test split", "false positive rate", "true positive rate")
    for position, (name, (false_rate, true_rate)) in enumerate(curves.items()):
        axes.plot(false_rate, true_rate, color=COLOURS[position % len(COLOURS)], label=_literal(name))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    _legend_beside(axes)
    _save(figure, path)


def plot_mistakes(stamps: NDArray[Any], titles: list[str], path: Path, *, columns: int = 6) -> None:
    """Draw stamps with a title each, for a look at what went wrong.

    Args:
        stamps: ``[N, C, H, W]``; the channels' mean is shown.
        titles: one for each stamp.
        path: the PNG to write.
        columns: stamps side by side.
    """
    rows = max(1, -(-len(stamps) // columns))
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(1.6 * columns, 2.1 * rows), layout="constrained")
        for position, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).flat):
            axes.axis("off")
            if position < len(stamps):
                axes.imshow(stamps[position].mean(axis=0), cmap="gray")
                axes.set_title(_literal(titles[position]))
        _save(figure, path)


def _literal(text: str) -> str:
    """Return ``text`` so that matplotlib shows its dollars, and does not read a formula between them."""
    return text.replace("$", r"\$")


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _legend_beside(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    # The file would name the version of matplotlib, and change its hash with it.
    figure.savefig(path, dpi=110, metadata={"Software": None})
