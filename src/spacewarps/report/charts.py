"""The plots of the page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.report import svg
from spacewarps.report.facts import label_of
from spacewarps.report.intervals import Share, wilson
from spacewarps.report.markup import Markup, element, joined
from spacewarps.writing import in_percent

_LEFT, _RIGHT, _TOP, _HEIGHT = 56.0, svg.WIDTH - 12.0, 34.0, 294.0
# More candidates of a layer than these have no room for names.
_NAMED_A_LAYER = 4
_LABEL_LETTERS, _LETTERS_ABOVE = 18, 52
_LABELS_ABOVE = 12


def plot_growth(
    candidates: Sequence[Mapping[str, Any]],
    values: Sequence[tuple[float, float, float]],
    what: str,
    description: str,
    controls: Mapping[int, float],
) -> Markup:
    """Draw what decided over depth.

    Args:
        candidates: one each, with ``layer``, ``kind``, ``k`` and ``chosen``.
        values: the value of each candidate, and its interval.
        what: what the values are.
        description: the alternative text.
        controls: the value of the control of each layer that has one.
    """
    layers = sorted({int(candidate["layer"]) for candidate in candidates})
    x = svg.Scale(layers[0] - 0.6, layers[-1] + 0.6, _LEFT, _RIGHT)
    shown = [each for value in values for each in value]
    y = svg.Scale(*svg.span([*shown, *controls.values()]), _HEIGHT - 48, _TOP)
    drawn, joined_places = [], []
    for layer in layers:
        if layer in controls:
            place = y.at(controls[layer])
            drawn.append(svg.bar_of_error((x.at(layer - 0.4), place), (x.at(layer + 0.4), place), "ideal"))
        there = [number for number, candidate in enumerate(candidates) if candidate["layer"] == layer]
        for position, number in enumerate(there):
            # Side by side, so that equal values do not hide each other.
            place = x.at(layer + 0.5 * (position - (len(there) - 1) / 2) / max(1, len(there) - 1))
            candidate, (value, low, high) = candidates[number], values[number]
            if not math.isfinite(value):
                continue
            if math.isfinite(low) and math.isfinite(high):
                drawn.append(svg.bar_of_error((place, y.at(low)), (place, y.at(high))))
            told = f"layer {layer}, {label_of(candidate)}: {what} {value:.4f}, {low:.4f} to {high:.4f}"
            drawn.append(svg.mark(place, y.at(value), 0, hollow=not candidate["chosen"], title=told))
            if len(there) <= _NAMED_A_LAYER and len(layers) * len(there) <= 16:
                drawn.append(svg.label(place + 7, y.at(value) + 4, str(candidate["k"]), anchor="start", class_="small"))
            if candidate["chosen"]:
                joined_places.append((place, y.at(value)))
    return svg.plot(
        "growth",
        f"{what} of every candidate as the network grows",
        description,
        _HEIGHT,
        svg.axes(
            x, y, names=("layer", what), at=(list(map(float, layers)) if len(layers) <= 20 else _whole(layers), _at(y))
        ),
        svg.lines(joined_places, 0),
        *drawn,
    )


def plot_losses(epochs: pd.DataFrame, best_epoch: int | None) -> Markup:
    """Draw the losses of the final training; ``val_loss`` is NaN where nothing was held out."""
    curves = {"training, smoothed labels": epochs["train_loss"], "held out": epochs["val_loss"]}
    shown = {name: column.to_numpy(dtype=np.float64) for name, column in curves.items() if column.notna().any()}
    x = _epochs(epochs)
    y = svg.Scale(*svg.span([value for column in shown.values() for value in column]), _HEIGHT - 48, _TOP)
    ends = ", ".join(f"{name} from {column[0]:.3f} to {column[-1]:.3f}" for name, column in shown.items())
    return svg.plot(
        "losses",
        "Loss over the epochs of the final training",
        f"Cross-entropy by epoch: {ends}.",
        _HEIGHT,
        svg.axes(x, y, names=("epoch", "cross-entropy"), at=(_whole(epochs["epoch"]), _at(y))),
        _kept(x, y, best_epoch),
        *(svg.lines(_points(epochs["epoch"], column, x, y), number) for number, column in enumerate(shown.values())),
        _legend(list(shown)),
    )


def plot_accuracies(epochs: pd.DataFrame, best_epoch: int | None, sources: int, confidence: float) -> Markup:
    """Draw the accuracy on what was held out from the final training, with its interval for so many sources."""
    values = epochs["val_accuracy"].to_numpy(dtype=np.float64)
    intervals = [wilson(float(value), sources, confidence) for value in values]
    x = _epochs(epochs)
    y = svg.Scale(*svg.span([each for pair in intervals for each in pair], within=(0, 1)), _HEIGHT - 48, _TOP)
    places = [x.at(epoch) for epoch in epochs["epoch"]]
    upper = [(place, y.at(high)) for place, (_, high) in zip(places, intervals, strict=True)]
    lower = [(place, y.at(low)) for place, (low, _) in zip(places, intervals, strict=True)]
    return svg.plot(
        "accuracies",
        "Accuracy on the samples held out, over the epochs of the final training",
        f"From {values[0]:.1%} at the first epoch to {values[-1]:.1%} at the last; the band is the "
        f"{in_percent(confidence)} interval for {sources} sources.",
        _HEIGHT,
        svg.axes(x, y, names=("epoch", "accuracy on what was held out"), at=(_whole(epochs["epoch"]), _at(y))),
        svg.band(upper, lower, 1),
        _kept(x, y, best_epoch),
        svg.lines(_points(epochs["epoch"], values, x, y), 1),
    )


def plot_reliability(bins: Sequence[Share]) -> Markup:
    """Draw how often answers were right over the probability that they had, with intervals."""
    x = svg.Scale(0, 1, _LEFT, _RIGHT)
    y = svg.Scale(0, 1, 374.0 - 48, _TOP)
    drawn = []
    for each in bins:
        place = x.at(each.expected or 0.0)
        told = f"{each.label}: right {each.value:.1%}, {each.low:.1%} to {each.high:.1%}, {each.samples} samples"
        drawn += [
            svg.bar_of_error((place, y.at(each.low)), (place, y.at(each.high))),
            svg.mark(place, y.at(each.value), 0, title=told),
        ]
    outside = sum(not each.low <= (each.expected or 0.0) <= each.high for each in bins)
    return svg.plot(
        "reliability",
        "Reliability diagram",
        f"Share of right answers over their probability, in {len(bins)} bins; the diagonal would be perfect. In "
        f"{outside} of the bins it lies outside of the interval.",
        374.0,
        svg.axes(x, y, names=("probability of the answer", "share that is right"), at=(_tenths(), _tenths())),
        element("line", x1=x.at(0), y1=y.at(0), x2=x.at(1), y2=y.at(1), class_="ideal"),
        *drawn,
    )


def plot_shares(
    identity: str, title: str, shares: Sequence[Share], what: str, line: tuple[float, str] | None = None
) -> Markup:
    """Draw shares one below the other, each with its interval.

    Args:
        identity: of the plot.
        title: what it shows.
        shares: from above to below.
        what: what they are shares of.
        line: a value that all may be compared with, and what it is.
    """
    # A long name stands above its interval, unless there are too many.
    above = max(len(share.label) for share in shares) > _LABEL_LETTERS and len(shares) <= _LABELS_ABOVE
    names = [svg.short(share.label, _LETTERS_ABOVE if above else _LABEL_LETTERS) for share in shares]
    left = 16.0 if above else 16 + max(map(svg.width_of, names))
    row = 44.0 if above else 24.0 if len(shares) <= 20 else 17.0
    height = _TOP + row * len(shares) + 50
    least = [share.low for share in shares] + ([line[0]] if line else [])
    most = [share.high for share in shares] + ([line[0]] if line else [])
    x = svg.Scale(*svg.span([*least, *most], within=(min(0.0, *least), max(1.0, *most))), left, _RIGHT - 12)
    bottom = height - 48
    drawn = []
    for position, (share, name) in enumerate(zip(shares, names, strict=True)):
        y = _TOP + row * (position + (0.7 if above else 0.5))
        told = f"{share.label}: {share.value:.1%}, {share.low:.1%} to {share.high:.1%}"
        drawn += [
            element(
                "text",
                name,
                element("title", share.label),
                x=left if above else left - 8,
                y=y - 14 if above else y + 4,
                text_anchor="start" if above else "end",
            ),
            svg.bar_of_error((x.at(share.low), y), (x.at(share.high), y)),
            svg.mark(x.at(share.value), y, 0, title=told),
        ]
    at = svg.ticks(x.low, x.high)
    grid = [element("line", x1=x.at(v), y1=_TOP, x2=x.at(v), y2=bottom, class_="grid") for v in at]
    texts = [svg.label(x.at(value), bottom + 18, text) for value, text in zip(at, svg.numbers(at), strict=True)]
    lowest, highest = min(shares, key=lambda s: s.value), max(shares, key=lambda s: s.value)
    compared = None
    if line:
        place = x.at(line[0])
        compared = joined(
            element("line", x1=place, y1=_TOP, x2=place, y2=bottom, class_="ideal"),
            svg.label(min(max(place, 70.0), _RIGHT - 70), _TOP - 8, line[1], class_="small"),
        )
    return svg.plot(
        identity,
        title,
        f"{len(shares)} values with intervals, from {lowest.value:.1%} ({svg.short(lowest.label, 40)}) to "
        f"{highest.value:.1%} ({svg.short(highest.label, 40)}).",
        height,
        *grid,
        element("line", x1=x.start, y1=bottom, x2=x.end, y2=bottom, class_="axis"),
        *texts,
        svg.label((x.start + x.end) / 2, bottom + 37, what),
        compared,
        *drawn,
    )


def plot_confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix of many classes: the share of each actual class, the darker the larger."""
    number = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    left, top = 40.0, 34.0
    cell = (svg.WIDTH - left - 4) / number
    bottom = top + cell * number
    drawn = []
    for row, column in zip(*np.nonzero(matrix), strict=True):
        told = f"{classes[row]} as {classes[column]}: {matrix[row, column]} ({shares[row, column]:.1%})"
        # Ten steps; the faintest is still to be seen.
        class_ = f"heat{min(9, int(shares[row, column] * 10))}"
        x, y = left + cell * float(column), top + cell * float(row)
        drawn.append(element("rect", element("title", told), x=x, y=y, width=cell, height=cell, class_=class_))
    # Where not each has room for its number, some have one.
    every = max(1, math.ceil(20 / cell))
    texts = []
    for position in range(0, number, every):
        middle = cell * (position + 0.5)
        texts += [
            svg.label(left - 6, top + middle + 4, str(position + 1), anchor="end", class_="small"),
            svg.label(left + middle, top - 5, str(position + 1), class_="small"),
        ]
    right = float(np.trace(matrix)) / max(1, int(matrix.sum()))
    return svg.plot(
        "confusion-plot",
        f"Confusion matrix of {number} classes",
        f"Rows are the actual classes, columns the predicted ones, by their numbers in the table of classes; "
        f"{right:.1%} of the samples are on the diagonal.",
        bottom + 4,
        element("rect", x=left, y=top, width=cell * number, height=cell * number, class_="frame"),
        *drawn,
        *texts,
        svg.label(left + cell * number / 2, 12, "predicted", class_="small"),
        svg.label(2, 24, "actual", anchor="start", class_="small"),
    )


def _epochs(epochs: pd.DataFrame) -> svg.Scale:
    last = float(epochs["epoch"].iloc[-1])
    return svg.Scale(1, last, _LEFT, _RIGHT - 8) if last > 1 else svg.Scale(0.5, 1.5, _LEFT, _RIGHT)


def _points(
    places: "pd.Series[float]", values: NDArray[np.float64], x: svg.Scale, y: svg.Scale
) -> list[tuple[float, float] | None]:
    return [
        (x.at(place), y.at(value)) if math.isfinite(value) else None
        for place, value in zip(places, values, strict=True)
    ]


def _whole(values: "Sequence[int] | pd.Series[float]") -> list[float]:
    low, high = float(min(values)), float(max(values))
    return svg.ticks(low, high, whole=True) if high > low else [low]


def _at(scale: svg.Scale) -> list[float]:
    return svg.ticks(scale.low, scale.high)


def _tenths() -> list[float]:
    return [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def _kept(x: svg.Scale, y: svg.Scale, epoch: int | None) -> Markup | None:
    if epoch is None:
        return None
    place = x.at(epoch)
    return joined(
        element("line", x1=place, y1=y.start, x2=place, y2=y.end, class_="ideal"),
        svg.label(min(place, _RIGHT - 60), y.end - 4, f"epoch {epoch} kept", class_="small"),
    )


def _legend(names: Sequence[str]) -> Markup:
    drawn, place = [], svg.WIDTH - 12
    for number, name in reversed(list(enumerate(names))):
        drawn += [
            svg.label(place, _TOP - 16, name, anchor="end"),
            svg.mark(place - svg.width_of(name) - 6, _TOP - 20, number),
        ]
        place -= svg.width_of(name) + 24
    return joined(*drawn)
