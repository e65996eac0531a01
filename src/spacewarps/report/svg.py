"""Plots as SVG within a page: drawn in the page's own colours, so that they follow its light and its dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from spacewarps.evaluation.markdown import printable
from spacewarps.report.markup import Markup, element, joined

#: The width of every plot, in its own units. On a telephone, one of them is about three quarters of a pixel.
WIDTH = 480.0
# Of a letter of the usual fonts, and of a wide one.
_LETTER, _WIDE_LETTER = 7.6, 10.6


@dataclass(frozen=True)
class Scale:
    """A range of values over a range of places.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``.
        start: a place.
        end: another place.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of ``value``; what lies outside is at the end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def span(values: Sequence[float], *, within: tuple[float, float] | None = None) -> tuple[float, float]:
    """Return a range that holds the finite ones of ``values``, with some room.

    Args:
        values: at least one; if none is finite, the range is arbitrary.
        within: what the range does not leave.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - room, high + room
    return (low, high) if within is None else (max(within[0], low), min(within[1], high))


def ticks(low: float, high: float, *, about: int = 5, whole: bool = False) -> list[float]:
    """Return round numbers from ``low`` to ``high``, about as many as wanted; only whole ones where asked for."""
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
    step = max(1.0, float(math.ceil(step))) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(text: str, letters: int) -> str:
    """Return ``text``, or its beginning where it has more than so many letters."""
    shown = printable(text)
    return shown if len(shown) <= letters else f"{shown[: letters - 1]}…"


def label(x: float, y: float, text: str, *, anchor: str = "middle", class_: str | None = None) -> Markup:
    """Return a text that ends, begins or has its middle at a place."""
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def width_of(text: str) -> float:
    """Return about how wide a text is."""
    return sum(_WIDE_LETTER if sign.isupper() or sign in "mw%…" else _LETTER for sign in text)


def mark(x: float, y: float, series: int, *, hollow: bool = False, size: float = 4.5, title: str = "") -> Markup:
    """Return the sign of a series: a circle, or a square for the second."""
    told = [element("title", title)] if title else []
    class_ = f"{'h' if hollow else 'f'}{series}"
    if series == 0:
        return element("circle", *told, cx=x, cy=y, r=size, class_=class_)
    return element("rect", *told, x=x - size, y=y - size, width=2 * size, height=2 * size, class_=class_)


def _polygon(points: Sequence[tuple[float, float]]) -> str:
    return f"M{' L'.join(_place(*point) for point in points)} Z"


def _place(x: float, y: float) -> str:
    return f"{x:.1f},{y:.1f}"


def lines(points: Sequence[tuple[float, float] | None], series: int) -> Markup:
    """Return lines through places; where there is none, they are broken."""
    parts: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            parts.append([])
        else:
            parts[-1].append(point)
    told = " ".join(f"M{' L'.join(_place(*point) for point in part)}" for part in parts if len(part) > 1)
    dots = [mark(*part[0], series, size=3) for part in parts if len(part) == 1]
    drawn = element("path", d=told, class_=f"s{series}") if told else None
    return joined(drawn, *dots)


def band(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], series: int) -> Markup:
    """Return what lies between two lines."""
    return element("path", d=_polygon([*upper, *reversed(lower)]), class_=f"b{series}")


def bar_of_error(low: tuple[float, float], high: tuple[float, float], class_: str = "error") -> Markup:
    """Return an interval, as a line from one place to another."""
    return element("line", x1=low[0], y1=low[1], x2=high[0], y2=high[1], class_=class_)


def axes(x: Scale, y: Scale, *, names: tuple[str, str], at: tuple[Sequence[float], Sequence[float]]) -> Markup:
    """Return the axes of a plot: a grid, its numbers, and what they are of.

    Args:
        x: from left to right.
        y: from below to above.
        names: of both.
        at: the numbers of both that have a line.
    """
    drawn: list[Markup] = []
    for value, text in zip(at[1], numbers(at[1]), strict=True):
        place = y.at(value)
        drawn += [
            element("line", x1=x.start, y1=place, x2=x.end, y2=place, class_="grid"),
            label(x.start - 6, place + 4, text, anchor="end"),
        ]
    for value, text in zip(at[0], numbers(at[0]), strict=True):
        drawn += [
            element("line", x1=x.at(value), y1=y.start, x2=x.at(value), y2=y.start + 4, class_="axis"),
            label(x.at(value), y.start + 18, text),
        ]
    drawn += [
        element("line", x1=x.start, y1=y.start, x2=x.end, y2=y.start, class_="axis"),
        label((x.start + x.end) / 2, y.start + 37, names[0]),
        label(2, y.end - 16, names[1], anchor="start"),
    ]
    return joined(*drawn)


def numbers(values: Sequence[float]) -> list[str]:
    """Return numbers of an axis as texts, all with as many decimals as tell them apart."""
    steps = (
        [abs(later - value) for value, later in pairwise(values)] or [abs(value) or 1.0 for value in values] or [1.0]
    )
    if max(map(abs, values), default=0.0) >= 1e6 or min(steps) < 1e-4:
        return [f"{value:.3g}" for value in values]
    decimals = max(0, -math.floor(math.log10(min(steps)) + 1e-9))
    return [f"{value:.{decimals}f}" for value in values]


def plot(identity: str, title: str, description: str, height: float, *drawn: str | None) -> Markup:
    """Return a plot whose title and description are its alternative text.

    Args:
        identity: no other element of the page has it.
        title: what it shows.
        description: what is to be seen in it, in a sentence.
        height: in its own units.
        drawn: what it consists of.
    """
    return element(
        "svg",
        element("title", title, id=f"{identity}-title"),
        element("desc", description, id=f"{identity}-desc"),
        *drawn,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{identity}-title {identity}-desc",
        class_="plot",
    )
