"""Text from outside in a Markdown page."""

import re

# What means something within a line of CommonMark or of GitHub's extensions (tables, links without brackets, formulas,
# text that is struck out). Where a sign means something only beside others, it is escaped only there. Of a mail address
# GitHub makes a link whatever escapes it.
_WITHIN_A_LINE = re.compile(
    r"""
      [`*\[~$|]
    | \\(?=[!-/:-@\[-`{-~]|\Z)       # an escape, or at the end one of what follows
    | (?<!\w)_+                      # no emphasis begins within a word
    | <(?![ ])                       # a tag, a comment or a link
    | &(?=\#?\w+(?:;|\Z))            # an entity
    | (?<=www)\. | :(?=//)           # a link without brackets
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What makes a heading, a list, a rule, a table or a quotation where a line begins with it. The escape stands behind a
# number.
_AT_A_START = re.compile(
    r"""
      [ ]*[0-9]{1,9}(?=[.)](?:[ ]|\Z))
    | [ ]*(?=\#{1,6}(?:[ ]|\Z) | [-+](?:[ ]|\Z) | -[- ]*\Z | :?-+:?[ ]*\Z | =+[ ]*\Z | >)
    """,
    re.VERBOSE,
)
# What no reader of tables or of HTML takes for the sign itself.
_ENTITIES = {"&": "&amp;", "<": "&lt;", "|": "&#124;"}


def printable(text: str) -> str:
    """Return ``text`` with Python's escapes for what cannot be printed: line breaks, marks that turn its direction."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def markdown_text(text: str) -> str:
    """Return ``text`` as Markdown that shows it as it is, on one line, in a sentence or in a cell of a table.

    What cannot be printed (line breaks, marks that turn the direction of the text) shows as Python's escape for it.
    """
    shown = printable(text)
    line = _WITHIN_A_LINE.sub(lambda found: "".join(_ENTITIES.get(sign, f"\\{sign}") for sign in found[0]), shown)
    start = _AT_A_START.match(line)
    return f"{start[0]}\\{line[start.end() :]}" if start else line
