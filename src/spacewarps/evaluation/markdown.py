"""Text from outside in a Markdown page."""

# What means something within a line of CommonMark, of GitHub's extensions (tables, links without brackets, formulas) or
# of HTML. The entities are what no reader of tables or of HTML takes for the sign itself.
_ESCAPES = str.maketrans(
    {sign: f"\\{sign}" for sign in r"\`*_[]~$^:.@"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
)


def markdown_text(text: str) -> str:
    """Return ``text`` as Markdown that shows it as it is, on one line, in a sentence or in a cell of a table.

    What cannot be printed (line breaks, marks that turn the direction of the text) shows as Python's escape for it.
    """
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return shown.translate(_ESCAPES)
