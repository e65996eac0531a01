"""Pictures for people: the same bytes for the same numbers."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

# Okabe & Ito's colours, told apart by nearly everyone (Color Universal Design, 2008).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P"]
LINES = ["-", "--", "-."]

# The font that matplotlib brings along, the same on every machine.
_FONT = FontProperties(family="DejaVu Sans", size=10)
# Inches for the name of a class above a stamp, and beside the axes of a picture; and the height of a line.
TITLE_WIDTH, LABEL_WIDTH = 1.15, 3.0
_LINE = 0.17
# The most classes whose cells of the confusion matrix hold a count and a share, and a count alone.
_CELLS_WITH_SHARES, _CELLS_WITH_TEXT = 10, 20
# Standard errors, either way, that hold 95% of a normal distribution.
_INTERVAL = 1.96
# More curves than this are not told apart: the lowest ones have names, and the mean of all.
_CURVES_NAMED, _LOWEST_NAMED = 12, 6


@contextmanager
def _own_style() -> Iterator[None]:
    """Draw what is asked for: with no settings of the user's, and with no formula read between two dollars."""
    with matplotlib.style.context(["default", {"text.parse_math": False}]):
        yield


def class_labels(classes: list[str], width: float) -> list[str]:
    """Return what stands for each class in a picture: its name, or ``[number] name`` where not all names fit.

    Args:
        classes: the classes' names; their numbers count from 1.
        width: the room in inches; a name that is wider is cut.
    """
    if not are_numbered(classes):
        return classes
    return [_cut(f"[{number}]" + f" {name}" * _is_drawn(name), width) for number, name in enumerate(classes, start=1)]


def are_numbered(classes: list[str]) -> bool:
    """Say whether pictures number the classes, as some name is too wide or has letters that the font lacks."""
    return any(not _is_drawn(name) or _width(name) > TITLE_WIDTH for name in classes)


def _cut(label: str, width: float) -> str:
    # No more letters than these fit anywhere; a name of a thousand would be measured a thousand times.
    shown = label if len(label) <= 100 else f"{label[:100]}…"
    while _width(shown) > width:
        shown = f"{shown[:-2].rstrip()}…"
    return shown


def _width(text: str) -> float:
    """Return the width of ``text`` in inches, in the letters of an axis."""
    return float(text_to_path.get_text_width_height_descent(text, _FONT, ismath=False)[0]) / 72


def _is_drawn(name: str) -> bool:
    return name.isprintable() and _letters().issuperset(map(ord, name))


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())


@_own_style()
def plot_depth(
    candidates: pd.DataFrame, path: Path, decides: str | None = None, controls: Mapping[int, float] | None = None
) -> None:
    """Draw what decided over depth, every candidate a point, the chosen ones joined by a line.

    Args:
        candidates: one row each, with ``layer``, ``kind``, ``k``, ``val_accuracy`` and ``chosen``; and ``value`` and
            its standard ``error`` where ``decides`` says what these are of.
        path: the PNG to write.
        decides: what candidates were compared by; ``val_accuracy`` without it.
        controls: the value of the control of each layer that has one.
    """
    values, what, title = candidates["val_accuracy"], "validation accuracy", "Validation accuracy as the network grows"
    if decides is not None:
        what = decides.replace("_", " ")
        values, title = (
            candidates["value"].astype(float),
            f"{what.capitalize()} on the samples left out, as the network grows",
        )
    ks = sorted(candidates["k"].unique())
    kinds = list(candidates["kind"].unique())
    # Room for a legend that names every kind with every k.
    height = max(5.0, 0.23 * len(ks) * len(kinds) + 1.0)
    figure, axes = _figure(title, "layer", what, height=height)
    colours = COLOURS if len(ks) <= len(COLOURS) else matplotlib.colormaps["viridis"](np.linspace(0, 1, len(ks)))
    # Candidates of one layer stand side by side, in the order of k, so that equal scores do not hide each other.
    beside = {k: 0.3 * (position - (len(ks) - 1) / 2) / max(1, len(ks) - 1) for position, k in enumerate(ks)}
    places = candidates["layer"] + candidates["k"].map(beside)
    entries: list[tuple[str, Artist | Container]] = []
    for position, k in enumerate(ks):
        for number, kind in enumerate(kinds):
            rows = (candidates["k"] == k) & (candidates["kind"] == kind)
            if rows.any():
                points = axes.scatter(
                    places[rows],
                    values[rows],
                    color=colours[position],
                    marker=MARKERS[number % len(MARKERS)],
                    zorder=3,
                )
                entries.append((f"k = {k}" if len(kinds) == 1 else f"{kind}, k = {k}", points))
    if decides is not None:
        bars = axes.errorbar(
            places,
            values,
            yerr=_INTERVAL * candidates["error"].astype(float),
            fmt="none",
            ecolor="grey",
            elinewidth=1,
            zorder=1,
        )
        base = "control" if controls else "last that joined"
        entries.append((f"95% interval (from layer\n2 on, of the difference\nfrom the {base})", bars))
    if controls:
        lines = axes.hlines(
            list(controls.values()),
            [layer - 0.4 for layer in controls],
            [layer + 0.4 for layer in controls],
            color="grey",
            linestyle="dashed",
            zorder=1,
        )
        entries.append(("control: the network\nbefore, after as many\nepochs", lines))
    chosen = candidates["chosen"]
    (joined,) = axes.plot(
        places[chosen],
        values[chosen],
        color="black",
        linewidth=1,
        marker="o",
        markersize=12,
        markerfacecolor="none",
        zorder=2,
    )
    axes.set_xticks(sorted(candidates["layer"].unique()))
    _legend_beside(axes, [*entries, ("joined", joined)])
    _save(figure, path)


@_own_style()
def plot_learning_curves(epochs: pd.DataFrame, best_epoch: int | None, path: Path) -> None:
    """Draw the final training: losses, and validation accuracy on an axis of its own.

    Args:
        epochs: one row each, with ``epoch``, ``train_loss``, ``val_loss`` and ``val_accuracy``; the last two are NaN
            where nothing was held out.
        best_epoch: the epoch whose weights were kept; nothing where that is the last one.
        path: the PNG to write.
    """
    figure, axes = _figure("Final training", "epoch", "cross-entropy")
    axes.plot(epochs["epoch"], epochs["train_loss"], color=COLOURS[0], label="training loss (smoothed labels)")
    scored = epochs["val_accuracy"].notna().any()
    if scored:
        axes.plot(epochs["epoch"], epochs["val_loss"], color=COLOURS[1], label="validation loss")
    if best_epoch is not None:
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = axes.get_legend_handles_labels()[0]
    if scored:
        right = axes.twinx()
        handles += right.plot(
            epochs["epoch"], epochs["val_accuracy"], color=COLOURS[2], linestyle="--", label="validation accuracy"
        )
        right.set_ylabel("accuracy")
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
    _save(figure, path)


@_own_style()
def plot_confusion(matrix: NDArray[np.int64], classes: list[str], path: Path) -> None:
    """Draw the confusion matrix: counts, over the share of the actual class that they are.

    Args:
        matrix: counts ``[actual, predicted]``.
        classes: the classes' names.
        path: the PNG to write.
    """
    number, labels = len(classes), class_labels(classes, LABEL_WIDTH)
    cell, room = _cell_size(number), max(map(_width, labels))
    turned = 0 if room < cell - 0.05 else 45 if number <= _CELLS_WITH_TEXT else 90
    beside = room + (0.0 if number <= _CELLS_WITH_TEXT else 1.5)
    figure, axes = _figure(
        "Test split",
        "predicted",
        "actual",
        width=max(7.0, number * cell + beside + 1.0),
        height=max(5.0, number * cell + (room if turned else 0.2) + 0.8),
    )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if number <= _CELLS_WITH_TEXT:
        for row, column in np.ndindex(*matrix.shape):
            share = f"\n{shares[row, column]:.1%}" if number <= _CELLS_WITH_SHARES else ""
            axes.text(
                column,
                row,
                f"{matrix[row, column]}{share}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
            )
    else:
        figure.colorbar(image, label="share of the actual class", fraction=0.04, pad=0.02)
    # Where not every line has room for its label, every second or third has one.
    shown = range(0, number, max(1, round(_LINE / cell)))
    ticks = [labels[i] for i in shown]
    axes.set_xticks(shown, ticks)
    axes.set_yticks(shown, ticks)
    if turned:
        # The end of each label stands below its tick.
        axes.tick_params(axis="x", rotation=turned, rotation_mode="xtick")
    axes.grid(visible=False)
    _save(figure, path)


def _cell_size(classes: int) -> float:
    """Return the side of a cell of the confusion matrix, in inches: room for its text, as long as it has one."""
    if classes <= _CELLS_WITH_SHARES:
        return max(0.62, 4.0 / classes)
    if classes <= _CELLS_WITH_TEXT:
        return 0.5
    return min(0.17, 17 / classes)


@_own_style()
def plot_roc(
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], classes: list[str], path: Path
) -> None:
    """Draw the receiver operating characteristic of each class against the others.

    Of many classes those with the smallest area have names, beside the mean of all.

    Args:
        curves: false and true positive rates by class.
        classes: the names of all classes, in the order of their numbers.
        path: the PNG to write.
    """
    names = dict(zip(classes, class_labels(classes, LABEL_WIDTH), strict=True))
    room = max(map(_width, names.values()))
    figure, axes = _figure(
        "Each class against the others, test split",
        "false positive rate",
        "true positive rate",
        width=7.0 + max(0.0, room - 1.5),
    )
    areas = {name: float(np.trapezoid(true_rate, false_rate)) for name, (false_rate, true_rate) in curves.items()}
    named = list(curves)
    entries: list[tuple[str, Artist | Container]] = []
    if len(curves) > _CURVES_NAMED:
        named = sorted(areas, key=areas.__getitem__)[:_LOWEST_NAMED]
        others = [axes.plot(*curve, color="lightgrey", linewidth=0.8)[0] for curve in curves.values()]
        grid = np.linspace(0, 1, 501)
        mean = np.mean([np.interp(grid, *curve) for curve in curves.values()], axis=0)
        (line,) = axes.plot(grid, mean, color="black", linewidth=2.5)
        entries += [("every class", others[0]), ("mean", line)]
    for position, name in enumerate(named):
        colour, style = COLOURS[position % len(COLOURS)], LINES[position // len(COLOURS)]
        (line,) = axes.plot(*curves[name], color=colour, linestyle=style)
        entries.append((names[name], line))
    (chance,) = axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    _legend_beside(axes, [*entries, ("chance", chance)])
    _save(figure, path)


@_own_style()
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
                axes.set_title(titles[position])
        _save(figure, path)


def _figure(title: str, x: str, y: str, *, width: float = 7.0, height: float = 5.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _legend_beside(axes: Axes, entries: Sequence[tuple[str, Artist | Container]]) -> None:
    # Labels go in beside the artists: matplotlib by itself leaves out those that begin with an underscore.
    labels, artists = zip(*entries, strict=True)
    axes.legend(artists, labels, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    # The file would name the version of matplotlib, and change its hash with it.
    figure.savefig(path, dpi=110, metadata={"Software": None})
