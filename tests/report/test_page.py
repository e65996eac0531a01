import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacewarps.report.facts import Facts
from spacewarps.report.page import write_page
from spacewarps.survey.prepared import PreparedSurvey
from tests.report.results import AUDIT, CURVES, DOUBTED, SEARCH, candidate, facts_of, survey_with_hostile_names

pytestmark = pytest.mark.usefixtures("compute")

SECTIONS = [
    "How the architecture grew",
    "Learning curves",
    "Comparison",
    "Calibration and coverage",
    "Confusion",
    "What the accuracy depends on",
    "Stamps",
    "The data",
    "How to repeat it",
]
ONE_SPLIT = {name: value for name, value in SEARCH.items() if name not in ("decides", "decisions")}


class Reader(HTMLParser):
    """What a page holds: its elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(facts: Facts, folder: Path) -> str:
    write_page(folder / "page.html", facts)
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(prepared: PreparedSurvey) -> Facts:
    return facts_of(prepared)


def test_it_has_the_same_bytes_every_time_and_holds_all_that_it_shows(facts: Facts, tmp_path: Path) -> None:
    page = written(facts, tmp_path)
    assert written(facts, tmp_path) == page
    assert str(tmp_path) not in page
    # Nothing is named that a browser could fetch, but the names of SVG's and HTML's own.
    assert "http" not in page.replace("http-equiv", "")
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", page)
    # No style stands on an element, where the policy would forbid it.
    assert "style=" not in page


def test_it_opens_with_the_answer_in_one_sentence(facts: Facts, tmp_path: Path) -> None:
    page, test = written(facts, tmp_path), facts.metrics
    answer = facts.answer()
    assert answer.startswith(
        f"The network tells GALAXY, QSO and STAR apart with an accuracy of {test['accuracy']:.1%} (90% interval "
        f"{test['accuracy_low']:.1%} to {test['accuracy_high']:.1%}) on 30 samples of 15 sources that it has not seen"
    )
    assert answer.count(". ") == 0
    assert page.index(f'<p class="answer">{html.escape(answer)}</p>') < page.index("<h2")
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == SECTIONS


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.02, 0.1, " points better than "), (-0.1, -0.02, " points worse than "), (-0.1, 0.1, "within noise")],
)
def test_the_answer_says_whether_images_help(prepared: PreparedSurvey, low: float, high: float, told: str) -> None:
    found = facts_of(prepared)
    gain = found.learned["guesses"]["gain"]
    gain |= {"accuracy": (low + high) / 2, "accuracy_low": low, "accuracy_high": high}
    assert told in found.answer()


def test_no_name_from_outside_makes_an_element_of_the_page(
    draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    script = "<script>alert(1)</script>"
    plain = draw_survey(features=("<b>z</b>",))
    hostile = survey_with_hostile_names(
        draw_survey(classes=(script, '"><img src=x>', "'\u202e"), features=("<b>z</b>",))
    )
    audit = AUDIT | {"notes": [script], "left_out": {script: {"count": 1, "rows": [script]}}}
    search = SEARCH | {"stopped": script, "architecture": [SEARCH["architecture"][0] | {"kind": script}]}
    doubted = DOUBTED.assign(id=script, label=script)
    reader = Reader(written(facts_of(hostile, audit=audit, search=search, doubted=doubted), tmp_path))
    tame = Reader(written(facts_of(plain), tmp_path))
    assert {tag for tag, _ in reader.elements} == {tag for tag, _ in tame.elements}
    assert len(reader.all("script")) == 1
    assert {name for _, attributes in reader.elements for name in attributes} == {
        name for _, attributes in tame.elements for name in attributes
    }
    assert script in reader.texts
    assert "\u202e" not in "".join(reader.texts)


def test_a_control_is_a_dashed_line_in_the_growth(prepared: PreparedSurvey, tmp_path: Path) -> None:
    decisions = [SEARCH["decisions"][0], SEARCH["decisions"][1] | {"control": {"value": 0.35}}]
    pages = [
        Reader(written(facts_of(prepared, search=SEARCH | {"decisions": each}), tmp_path))
        for each in (SEARCH["decisions"], decisions)
    ]
    dashes = [sum(line.get("class") == "ideal" for line in page.all("line")) for page in pages]
    assert dashes[1] == dashes[0] + 1
    without, beside = (" ".join(page.texts) for page in pages)
    assert "of the difference from the last block that joined)." in without
    assert "of the difference from the control). Dashed: the control of the layer, which is the network" in beside


def test_labels_to_look_at_are_told_where_there_are_any(facts: Facts, tmp_path: Path) -> None:
    texts = " ".join(Reader(written(facts, tmp_path)).texts)
    assert "contradict 2 labels outside the test split with confidence, 1 of them of sources whose rows" in texts
    assert "c QSO GALAXY 1.0% 90.0%" in texts
    assert "Labels to look at" not in written(replace(facts, doubted=DOUBTED.iloc[:0]), tmp_path)


def test_each_stamp_shows_what_it_is(facts: Facts, tmp_path: Path) -> None:
    reader = Reader(written(facts, tmp_path))
    cards = [card for card in reader.all("li") if "data-id" in card]
    images = reader.all("img")
    assert len(images) == 2 * len(cards)
    assert all(image["alt"] for image in images)
    assert {card["data-id"] for card in cards} <= set(facts.test.samples["id"])
    text = "".join(reader.texts)
    assert text.count("feature z_err") == len(cards)
    assert text.count("may be") == len(cards)


def changed(survey: PreparedSurvey, what: str) -> Facts:
    curves: dict[str, Any] = {
        "one epoch": CURVES[:1],
        "nothing held out": CURVES.assign(val_loss=np.nan, val_accuracy=np.nan),
        "diverged": CURVES.assign(train_loss=[1.0, np.inf, np.nan]),
    }
    if what in curves:
        return facts_of(survey, curves=curves[what])
    without = candidate(2, 8, 0.29) | {"value": None, "error": None}
    changes: dict[str, dict[str, Any]] = {
        "one split": {"search": ONE_SPLIT, "training": {"best_epoch": 2, "epochs": 3, "val_accuracy": 0.8}},
        "no audit": {"audit": None},
        "no sets": {"sets": None},
        "never wrong": {"noise": 0.0},
        "one network": {"members": 1},
        "a candidate diverged": {"search": SEARCH | {"candidates": [*SEARCH["candidates"], without]}},
    }
    return facts_of(survey, **changes[what])


@pytest.mark.parametrize(
    "what",
    [
        "one epoch",
        "nothing held out",
        "diverged",
        "one split",
        "no audit",
        "no sets",
        "never wrong",
        "one network",
        "a candidate diverged",
    ],
)
def test_whatever_a_result_lacks_there_is_a_page(prepared: PreparedSurvey, tmp_path: Path, what: str) -> None:
    page = written(changed(prepared, what), tmp_path)
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == SECTIONS
    drawing = re.sub("<(?:p|td|dd|li)[ >].*?</(?:p|td|dd|li)>", "", page)
    assert not re.findall(r"=\"[^\"]*\b(?:nan|inf)\b", drawing)


def test_many_classes_many_channels_and_no_features_have_a_page(
    draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    survey = draw_survey(
        classes=tuple(f"class {number}" for number in range(40)),
        features=(),
        channels=5,
        dtype="float32",
        sizes={"train": 80, "validation": 80, "test": 160},
    )
    page = written(facts_of(survey), tmp_path)
    assert "tells 40 classes apart" in page
    assert "with channels 5, 3 and 1 as red, green and blue" in page
    assert 'id="confusion-plot-title"' in page
    assert len(page) < 1_000_000


def test_accuracies_of_one_split_have_intervals_for_its_sources(prepared: PreparedSurvey) -> None:
    found = facts_of(prepared, search=ONE_SPLIT)
    what, interval, values = found.values_of_candidates()
    assert (what, "of 15 sources" in interval) == ("validation accuracy", True)
    assert all(low < value < high for value, low, high in values)


def test_each_baseline_stands_with_the_gain_over_it(prepared: PreparedSurvey, tmp_path: Path) -> None:
    found = facts_of(prepared)
    found.metrics_of_all["baseline"]["trees"] = {**found.learned["guesses"], "classifier": "trees", "accuracy": 0.4321}
    found.metrics_of_all["row_split"] = {
        "accuracy": 0.987,
        "accuracy_low": 0.9,
        "accuracy_high": 0.99,
        "samples": 30,
        "samples_of_seen_sources": 20,
    }
    page = written(found, tmp_path)
    assert page.count("a guesser") >= 3
    assert "43.2%" in page
    assert "would have claimed an accuracy of 0.9870" in page
