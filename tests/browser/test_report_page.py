"""The page of a result, as someone opens it from a mail: on a desk, on a telephone, in the dark, on paper."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spacewarps.report.facts import Facts
from spacewarps.report.page import write_page
from spacewarps.survey.prepared import PreparedSurvey
from tests.browser.visitor import Visitor, visit
from tests.report.results import facts_of

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("compute")]

SCRIPT = "<script>document.title='taken'</script>"
FEW, MANY = "few", "many"
# What axe-core calls minor or moderate is advice.
SERIOUS = {"serious", "critical"}
_DRAWN = """() => [...document.querySelectorAll('svg.plot')].map(plot => {
  const frame = plot.getBoundingClientRect();
  const parts = [...plot.querySelectorAll('circle, rect, path, line, text')].map(part => part.getBoundingClientRect());
  return {
    name: plot.querySelector('title').textContent,
    about: plot.querySelector('desc').textContent,
    marks: plot.querySelectorAll('circle, rect, path').length,
    size: [frame.width, frame.height],
    outside: parts.filter(part => part.left < frame.left - 1 || part.right > frame.right + 1
      || part.top < frame.top - 1 || part.bottom > frame.bottom + 1).length,
  };
})"""


@pytest.fixture(scope="module")
def facts(draw_survey: Callable[..., PreparedSurvey]) -> dict[str, Facts]:
    many = tuple(f"a class of number {number}" for number in range(40))
    sizes = {"train": 80, "validation": 80, "test": 240}
    return {
        FEW: facts_of(draw_survey(classes=(SCRIPT, "QSO", "STAR"), sizes=sizes)),
        MANY: facts_of(draw_survey(classes=many, features=(), channels=5, dtype="float32", sizes=sizes)),
    }


@pytest.fixture(scope="module")
def pages(facts: dict[str, Facts], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    for name, each in facts.items():
        write_page(folder / f"{name}.html", each)
    return {name: (folder / f"{name}.html").as_uri() for name in facts}


@pytest.fixture(params=["light", "dark", "telephone"])
def reader(request: pytest.FixtureRequest, browser: Any) -> Iterator[Visitor]:
    with visit(browser) as visitor:
        visitor.page.emulate_media(color_scheme="dark" if request.param == "dark" else "light")
        if request.param == "telephone":
            visitor.page.set_viewport_size({"width": 390, "height": 844})
        yield visitor


def shown_ids(visitor: Visitor) -> list[str]:
    return [str(card.get_attribute("data-id")) for card in visitor.page.locator(".stamps > li:visible").all()]


@pytest.mark.parametrize("name", [FEW, MANY])
def test_every_plot_is_drawn_and_nothing_is_wider_than_the_page(
    reader: Visitor, pages: dict[str, str], name: str
) -> None:
    reader.page.goto(pages[name])
    width = reader.page.viewport_size["width"]
    assert reader.page.evaluate("document.documentElement.scrollWidth") == width
    plots = reader.page.evaluate(_DRAWN)
    assert len(plots) >= 7
    for plot in plots:
        assert plot["name"], plot
        assert plot["about"], plot
        assert plot["marks"] > 1, plot
        assert min(plot["size"]) > 60, plot
        assert not plot["outside"], plot
    assert reader.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize("name", [FEW, MANY])
def test_axe_finds_nothing_serious(reader: Visitor, pages: dict[str, str], name: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    reader.page.goto(pages[name])
    for details in reader.page.locator("summary").all():
        details.click()
    found = axe.Axe().run(reader.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS] == []
    # It would find something: a picture without a text.
    reader.page.evaluate("document.images[0].removeAttribute('alt')")
    assert "image-alt" in [each["id"] for each in axe.Axe().run(reader.page).response["violations"]]


def test_a_class_that_is_a_script_is_text(visitor: Visitor, pages: dict[str, str], facts: dict[str, Facts]) -> None:
    visitor.page.goto(pages[FEW])
    assert visitor.page.title() == "Space Warps: result on the test split"
    assert visitor.page.locator(".answer").inner_text() == facts[FEW].answer()
    assert SCRIPT in facts[FEW].answer()
    assert visitor.page.locator("th", has_text=SCRIPT).count()


def test_the_policy_lets_no_other_script_run_and_nothing_be_fetched(visitor: Visitor, pages: dict[str, str]) -> None:
    visitor.page.goto(pages[FEW])
    visitor.page.evaluate(
        """() => {
          for (const html of ["<img src='https://example.org/a.png'>", "<style>p{color:red}</style>"])
            document.body.insertAdjacentHTML('beforeend', html);
          const script = document.createElement('script');
          script.textContent = "document.title='taken'";
          document.body.append(script);
        }"""
    )
    visitor.page.wait_for_timeout(500)
    assert visitor.page.title() != "taken"
    assert visitor.page.evaluate("[...document.images].at(-1).naturalWidth") == 0
    assert ["Content Security Policy" in told for told in visitor.complaints] == [True] * 3
    # The request is told of, although it was refused.
    visitor.asked_elsewhere.clear()
    visitor.complaints.clear()


def test_stamps_are_filtered_and_sorted_by_keys_alone(visitor: Visitor, pages: dict[str, str]) -> None:
    page = visitor.page
    page.goto(pages[FEW])
    before = shown_ids(visitor)
    page.get_by_label("Sort by").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    probabilities = [
        float(card.get_attribute("data-probability")) for card in page.locator(".stamps").first.locator("li").all()
    ]
    assert probabilities == sorted(probabilities)
    page.get_by_label("Sort by").select_option(label="z, lowest first")
    # As if the network had seen no redshift of it.
    visitor.page.evaluate("document.querySelector('.stamps > li').dataset.feature0 = ''")
    page.get_by_label("Sort by").dispatch_event("input")
    *redshifts, last = [
        card.get_attribute("data-feature0") for card in page.locator(".stamps").first.locator("li").all()
    ]
    assert [float(each) for each in redshifts] == sorted(map(float, redshifts))
    assert last == ""
    page.get_by_label("Sort by").select_option(label="as chosen")
    assert shown_ids(visitor) == before
    page.get_by_label("Class", exact=True).select_option(label="QSO")
    some = page.locator(".stamps > li:visible").all()
    assert 0 < len(some) < len(before)
    assert {card.get_attribute("data-actual") for card in some} == {"1"}
    assert page.get_by_role("status").inner_text() == f"{len(some)} of {len(before)} stamps shown"
    page.get_by_label("Id contains").focus()
    page.keyboard.type(before[0].upper())
    assert set(shown_ids(visitor)) <= {before[0]}


def test_without_its_script_the_page_shows_all_stamps(browser: Any, pages: dict[str, str]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages[FEW])
    assert page.locator(".stamps > li").first.is_visible()
    assert not page.locator("#controls").is_visible()
    context.close()


def test_on_paper_nothing_is_left_out(visitor: Visitor, pages: dict[str, str]) -> None:
    visitor.page.goto(pages[FEW])
    visitor.page.emulate_media(media="print", color_scheme="dark")
    visitor.page.set_viewport_size({"width": 720, "height": 1000})
    visitor.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert visitor.page.locator("details:not([open])").count() == 0
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 720
    assert not visitor.page.locator("#controls").is_visible()
    assert visitor.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    content = visitor.page.pdf()
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 2
