"""Elements of HTML and SVG whose text and attributes are escaped, unless they are elements themselves."""

import html

from spacewarps.evaluation.markdown import printable


class Markup(str):
    """HTML that stands as it is; every other text is escaped."""

    __slots__ = ()


_EMPTY = frozenset({"meta", "img", "input", "br"})
# In SVG, what holds nothing is closed in itself.
_SHAPES = frozenset({"circle", "line", "path", "polyline", "polygon", "rect"})


def element(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """Return the element ``name``.

    Args:
        name: such as ``p``.
        children: text, which is escaped, or :class:`Markup`, which is not; what is none is left out.
        attributes: an underscore stands for a hyphen, one at the end for nothing; those that are none or false are left
            out, and those that are true have no value.
    """
    told = [
        key if value is True else f'{key}="{_escaped(_written(value))}"'
        for given, value in attributes.items()
        if value is not None and value is not False
        for key in [given.removesuffix("_").replace("_", "-")]
    ]
    start = " ".join([name, *told])
    if name in _SHAPES and not children:
        return Markup(f"<{start}/>")
    if name in _EMPTY:
        return Markup(f"<{start}>")
    return Markup(f"<{start}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    """Return ``children`` one after the other, texts escaped."""
    return Markup("".join(child if isinstance(child, Markup) else _escaped(child) for child in children if child))


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _written(value: str | float) -> str:
    # A tenth of a pixel is more than anyone sees, and short.
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
