"""MLflow's pages as an astronomer meets them: by the link that the pipeline prints, and by clicks from there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.pages_of_mlflow import Pages, make_ui
from tests.browser.visitor import HEIGHT, WIDTH, Visitor
from tests.pipeline.project import Project

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pages(browser: Any, finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:  # noqa: ARG001
    with make_ui(finished, tmp_path_factory.mktemp("ui") / "log") as found:
        yield found


@pytest.fixture
def search(finished: Project) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((finished.folder / "reports/search.json").read_text())
    return report


@pytest.fixture
def test_figures(finished: Project) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((finished.folder / "reports/metrics.json").read_text())["test"]
    return figures


@pytest.fixture
def on_runs(pages: Pages, visitor: Visitor) -> Visitor:
    """Someone who has opened the link, and closed the assistant that MLflow opens beside it."""
    visitor.page.goto(pages.named)
    visitor.sees("matching run")
    close = visitor.page.get_by_role("button", name="Close", exact=True)
    if close.count():
        close.click()
    return visitor


def is_in_the_window(place: Any) -> bool:
    box = place.bounding_box()
    return box is not None and box["x"] + box["width"] <= WIDTH and box["y"] + box["height"] <= HEIGHT


def cell(visitor: Visitor, row: int, column: str) -> Any:
    """Return a cell of MLflow's table of runs."""
    return visitor.page.locator(f"[role=row][row-index='{row}'] [role=gridcell][col-id*='{column}']").first


def open_run(visitor: Visitor, name: str | re.Pattern[str]) -> None:
    visitor.page.get_by_role("link", name=name).first.click()
    visitor.sees("About this run")


def test_the_link_that_the_pipeline_prints_opens_on_its_runs(
    on_runs: Visitor, pages: Pages, finished: Project, search: dict[str, Any], test_figures: dict[str, Any]
) -> None:
    (printed,) = re.findall(r"serves (http://127\.0\.0\.1:5000\S+)", finished.said.read_text())
    assert pages.named == printed.replace("http://127.0.0.1:5000", pages.address)
    on_runs.sees("1 matching run")
    # Nobody is asked what the experiment is for, and no run of a stage stands between those of the pipeline.
    shown = on_runs.text()
    assert "Model training" in shown
    assert "evaluate" not in shown
    # Where the rest is stands in the note, by names that are on the page.
    assert "The menu beside the title holds two views" in shown
    columns = {
        "test/accuracy": str(test_figures["accuracy"])[:6],
        "test/log_loss": str(test_figures["log_loss"])[:6],
        "spacewarps.architecture": ", ".join(f"conv k={block['k']}" for block in search["architecture"]),
    }
    for column, value in columns.items():
        assert is_in_the_window(on_runs.sees(column)), column
        assert value in cell(on_runs, 0, column).inner_text()


def test_the_name_of_a_run_leads_to_result_architecture_and_decisions(
    on_runs: Visitor, search: dict[str, Any], test_figures: dict[str, Any]
) -> None:
    open_run(on_runs, re.compile("^pipeline "))
    on_runs.sees(f"Test accuracy {test_figures['accuracy']:.4f}")
    on_runs.sees(f"{len(search['architecture'])} blocks, {search['total_trainable_params']:,} parameters")
    on_runs.page.get_by_text("Show more").first.click()
    for block in search["architecture"]:
        row = ["conv", f"k={block['k']}", "{} to {}".format(*block["channels"]), f"{block['val_accuracy']:.4f}"]
        assert " ".join(row) in " ".join(on_runs.page.locator("table").first.inner_text().split())
    picture = on_runs.page.locator("img[src*='get-artifact']").first
    picture.wait_for(state="visible")
    on_runs.page.wait_for_function("image => image.naturalWidth > 100", arg=picture.element_handle())
    on_runs.sees("What can be done next")
    on_runs.sees("What each step decided")
    for block in search["architecture"]:
        on_runs.sees(
            f"step {block['layer']}: conv k={block['k']} joined, validation accuracy {block['val_accuracy']:.4f}"
        )


def test_the_menu_beside_the_title_has_every_candidate_and_whether_it_joined(
    on_runs: Visitor, search: dict[str, Any]
) -> None:
    open_candidates(on_runs)
    candidates = search["candidates"]
    on_runs.sees(f"{len(candidates)} matching runs")
    shown = sorted(
        [cell(on_runs, row, name).inner_text() for name in ("`step`", "`joined`", "`val_accuracy`")]
        for row in range(len(candidates))
    )
    expected = [[str(c["layer"]), "yes" if c["chosen"] else "no", str(c["val_accuracy"])] for c in search["candidates"]]
    assert shown == sorted(expected)
    assert all(is_in_the_window(on_runs.sees(name)) for name in ("joined", "val_loss", "val_accuracy"))


def test_charts_compare_candidates_by_all_that_matters(on_runs: Visitor) -> None:
    open_candidates(on_runs)
    on_runs.page.locator("label").filter(has=on_runs.page.locator("input[value='CHART']")).click()
    on_runs.sees("Parallel Coordinates")
    axes = on_runs.page.locator(".parcoords, svg").filter(has_text="joined").first
    axes.wait_for()
    shown = axes.text_content()
    for axis in ("step", "kind", "k", "joined", "traina...params", "seconds", "val_accuracy", "val_loss"):
        assert axis in shown
    assert {"conv", "yes", "no"} <= set(re.findall("conv|yes|no", shown))
    on_runs.sees("trainable_params vs. val_loss")


def test_the_pictures_of_the_report_open_in_the_browser(on_runs: Visitor) -> None:
    open_run(on_runs, re.compile("^pipeline "))
    open_run(on_runs, "evaluate")
    on_runs.page.get_by_role("tab", name="Artifacts").click()
    on_runs.sees("report").click()
    for name in ("confusion.png", "mistakes.png"):
        on_runs.sees(name).click()
        picture = on_runs.page.locator("img[src^='blob:'], img[src*='get-artifact']").first
        picture.wait_for(state="visible")
        on_runs.page.wait_for_function("image => image.naturalWidth > 100", arg=picture.element_handle())


def test_the_page_of_the_result_opens_among_the_artifacts(on_runs: Visitor, test_figures: dict[str, Any]) -> None:
    open_run(on_runs, re.compile("^pipeline "))
    open_run(on_runs, "evaluate")
    on_runs.page.get_by_role("tab", name="Artifacts").click()
    on_runs.sees("report.html").click()
    inside = on_runs.page.frame_locator("iframe")
    answer = inside.locator(".answer")
    answer.wait_for()
    assert f"an accuracy of {test_figures['accuracy']:.1%}" in answer.inner_text()
    # Its script runs there as well.
    inside.locator("#controls").wait_for()
    assert "stamps shown" in inside.get_by_role("status").inner_text()


def open_candidates(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Results").click()
    visitor.page.get_by_text("Candidates", exact=True).last.click()
    visitor.page.get_by_role("button", name="Candidates").wait_for()
