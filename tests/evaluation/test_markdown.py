import pytest
from markdown_it import MarkdownIt

from spacewarps.evaluation.markdown import markdown_text

HOSTILE = [
    "<script>alert(1)</script>",
    "![x](http://evil.example/x.png) [y](javascript:z)",
    "`code` *a* **b** _c_ __d__ ~~e~~ $f$",
    "a|b\\|c",
    "a\\",
    "<!-- hidden",
    "&lt;b&gt; &#60;",
    "https://evil.example www.evil.example a@evil.example <https://evil.example>",
]


def elements(page: str) -> tuple[list[str], list[str]]:
    """Return the types of everything within the cells of a page's tables, and their text."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    cells = [token for token in reader.parse(page) if token.type == "inline"]
    inside = [part for cell in cells for part in cell.children or []]
    return [part.type for part in inside], [part.content for part in inside]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_in_a_table_shows_as_it_is_and_makes_no_element(text: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| {markdown_text(text)} | last |"
    kinds, texts = elements(page)
    assert set(kinds) == {"text"}
    assert texts == ["a", "b", text, "last"]


def test_what_cannot_be_printed_shows_as_its_escape() -> None:
    assert markdown_text("a\nb\u202e") == r"a\\nb\\u202e"


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("GALAXY", "H-II region (Sb/Sc)", "Αστέρας", "星系", "+1", "=cmd"):
        assert markdown_text(name) == name
