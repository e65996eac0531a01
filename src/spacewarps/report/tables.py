"""Tables and figures of the page."""

from collections.abc import Sequence

from spacewarps.report.intervals import Share
from spacewarps.report.markup import Markup, element

# A cell of more letters than these is no narrower than a sentence needs.
_LONG = 24


def table(caption: str, heading: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> Markup:
    """Return a table that can be moved aside where it is wider than the page.

    Args:
        caption: what it holds.
        heading: of the columns.
        rows: the cells; the first of each is what the row is of.
        numbers: how many of the last columns hold numbers.
    """
    first = len(heading) - numbers
    classes = ["number" if column >= first else None for column in range(len(heading))]
    return aside(
        caption,
        element(
            "table",
            element("caption", element("span", caption)),
            element(
                "thead",
                element(
                    "tr",
                    *(
                        element("th", name, scope="col", class_=class_)
                        for name, class_ in zip(heading, classes, strict=True)
                    ),
                ),
            ),
            element(
                "tbody",
                *(
                    element(
                        "tr",
                        element("th", row[0], scope="row", class_="long" if len(row[0]) > _LONG else None),
                        *(
                            element("td", cell, class_=class_ or ("long" if len(cell) > _LONG else None))
                            for cell, class_ in zip(row[1:], classes[1:], strict=True)
                        ),
                    )
                    for row in rows
                ),
            ),
        ),
    )


def aside(name: str, wide: Markup) -> Markup:
    """Return what may be wider than the page in a box that is moved by touch or by keys."""
    return element("div", wide, class_="wide", role="region", aria_label=name, tabindex="0")


def figure(plot: Markup, *caption: str) -> Markup:
    """Return a plot above its caption."""
    return element("figure", plot, element("figcaption", *caption))


def row_of_share(share: Share) -> list[str]:
    """Return the cells of a share: its name, value, interval, samples and sources."""
    interval = f"{share.low:.1%} to {share.high:.1%}"
    return [share.label, f"{share.value:.1%}", interval, str(share.samples), str(share.sources)]
