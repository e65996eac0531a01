from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    "a&lt",
    "https://evil.example www.evil.example <a@evil.example> <1@evil.example> <https://evil.example>",
    "a_ _b __c__ _",
]
# What makes a block where a line begins with it.
AT_A_START = [
    "# a",
    "###### a",
    "#",
    "- a",
    "+ a",
    "-",
    "---",
    "- - -",
    "-- -",
    ":-",
    "--:",
    "===",
    "=",
    "1. a",
    "2) a",
    "3.",
    "> a",
    "~~~",
    "```",
]
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# Half of them is made of what means something.
TEXTS = st.one_of(
    st.text("\\`*_[]()!~<>&#;|-+=.:@/w1a ", min_size=1, max_size=30),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30),
).filter(lambda text: text == text.strip() != "")
PLACES: dict[str, Callable[[str], str]] = {
    "a cell": lambda text: f"| a |\n| --- |\n| {text} |",
    "an item of a list": lambda text: f"- {text}",
    "a line": lambda text: text,
    "a line below another": lambda text: f"a\n{text}",
    "within a sentence": lambda text: f"*a* ({text}) `c` {text}, {text}; [1] **d**",
}


def blocks(page: str) -> list[str]:
    """Return the types of a page's blocks."""
    return [token.type for token in READER.parse(page)]


def elements(page: str) -> tuple[list[str], list[str]]:
    """Return the types of everything within the lines of a page, and their text."""
    inside = [part for line in READER.parse(page) if line.type == "inline" for part in line.children or []]
    return [part.type for part in inside], [part.content for part in inside]


def check_shown(text: str, place: Callable[[str], str]) -> None:
    # A word of letters shows as it is.
    page, plain = place(markdown_text(text)), place("PLAIN")
    assert blocks(page) == blocks(plain)
    kinds, texts = elements(page)
    plain_kinds, plain_texts = elements(plain)
    assert kinds == plain_kinds
    assert texts == [part.replace("PLAIN", text) for part in plain_texts]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_in_a_table_shows_as_it_is_and_makes_no_element(text: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| {markdown_text(text)} | last |"
    kinds, texts = elements(page)
    assert set(kinds) == {"text"}
    assert texts == ["a", "b", text, "last"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", [*HOSTILE, *AT_A_START])
def test_a_text_shows_as_it_is_wherever_it_stands(text: str, place: str) -> None:
    check_shown(text, PLACES[place])


@given(TEXTS, st.sampled_from(list(PLACES.values())))
def test_any_text_shows_as_it_is_wherever_it_stands(text: str, place: Callable[[str], str]) -> None:
    check_shown(text, place)


@pytest.mark.parametrize("text", ["https://a.example", "www.a.example", "$a$", "~a~", ":-"])
def test_what_github_alone_takes_for_markup_is_escaped(text: str) -> None:
    assert "\\" in markdown_text(text)


def test_what_cannot_be_printed_shows_as_its_escape() -> None:
    assert markdown_text("a\nb\u202e") == r"a\nb\u202e"


@pytest.mark.parametrize(
    "text",
    [
        "GALAXY",
        "H-II region (Sb/Sc)",
        "Αστέρας",
        "星系",
        "+1",
        "-1.5",
        "=cmd",
        "1.0",
        "z_err",
        "mag__g_1",
        "#3",
        "x^2",
        "S/N > 5 & z < 0.1",
        "AT&T lens",
        r"C:\data",
        "12:30:45.6",
        "step 2: conv k=8 joins: loss 0.1829, 0.0178 +- 0.0035 lower; conv k=16 no better",
    ],
)
def test_what_means_nothing_stays_as_it_is(text: str) -> None:
    assert markdown_text(text) == text
