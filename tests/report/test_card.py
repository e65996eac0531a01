from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from spacewarps.report.card import write_card
from spacewarps.report.facts import Facts
from spacewarps.survey.prepared import PreparedSurvey
from tests.report.results import AUDIT, facts_of

pytestmark = pytest.mark.usefixtures("compute")


def written(facts: Facts, folder: Path) -> str:
    write_card(folder / "card.md", facts)
    return (folder / "card.md").read_text(encoding="utf-8")


def test_it_has_the_parts_of_a_model_card_and_the_figures_of_the_page(prepared: PreparedSurvey, tmp_path: Path) -> None:
    facts = facts_of(prepared)
    card = written(facts, tmp_path)
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    assert facts.answer() in card
    network = facts.classifiers()[0]
    assert f"| the network | {network.value:.1%} | {network.low:.1%} to {network.high:.1%} | 30 | 15 |" in card
    assert written(facts_of(prepared), tmp_path) == card


def test_no_name_from_outside_makes_an_element_of_the_card(
    draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    survey = draw_survey(classes=("<script>alert(1)</script>", "![a](b)", "`c`|d"), features=("<b>z</b>",))
    audit = AUDIT | {"left_out": {"<b>": {"count": 1, "rows": ["a"]}}}
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    card = written(facts_of(survey, audit=audit), tmp_path)
    tokens = [part for token in reader.parse(card) for part in (token, *(token.children or []))]
    assert {token.type for token in tokens if "html" in token.type or "image" in token.type} == set()
    # The command that repeats the result, and one that helps: none of a name from outside.
    code = [token.content for token in tokens if "code" in token.type]
    assert code == ["dvc repro --force", "spacewarps predict", "spacewarps crossvalidate"]


def test_a_survey_that_another_program_prepared_has_a_card(prepared: PreparedSurvey, tmp_path: Path) -> None:
    assert "A survey that another program prepared." in written(facts_of(prepared, audit=None), tmp_path)
