"""DVC's plots of two experiments, as `make plots` draws them where there is no network."""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import Visitor
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

OTHER = "single"


@pytest.fixture(scope="module")
def compared(browser: Any, finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:  # noqa: ARG001
    """A project with an experiment that lets only one block join."""
    project = finished.copy(tmp_path_factory.mktemp("compared") / "project")
    project.dvc("exp", "run", "--name", OTHER, "--set-param", "search.max_layers=1")
    return project


@pytest.fixture(scope="module")
def drawn(compared: Project) -> Path:
    if importlib.util.find_spec("vl_convert") is None:
        pytest.skip("the extra `plots` is not installed")
    compared.run(*compared.make_command("plots", f"REV=HEAD {OTHER}"))
    return compared.folder / "dvc_plots/index.html"


@pytest.fixture
def on_plots(visitor: Visitor, drawn: Path) -> Visitor:
    visitor.page.goto(drawn.as_uri())
    visitor.sees("accuracy over depth")
    return visitor


def plot(visitor: Visitor, title: str) -> Any:
    return visitor.page.locator("svg.marks").filter(has_text=title).first


def candidates(project: Project, revision: str) -> list[dict[str, str]]:
    return list(csv.DictReader(project.git("show", f"{revision}:reports/plots/depth.csv").splitlines()))


def figures(project: Project, revision: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.git("show", f"{revision}:reports/metrics.json"))["test"]
    return found


@pytest.mark.parametrize("figure", ["accuracy", "loss"])
def test_two_searches_lie_over_each_other(on_plots: Visitor, compared: Project, figure: str) -> None:
    over_depth = plot(on_plots, f"{figure} over depth")
    shown = over_depth.text_content()
    for text in ("HEAD", OTHER, "layer", f"validation {figure} of every candidate", "joined"):
        assert text in shown
    points = over_depth.locator(".mark-symbol[aria-roledescription='point'] path, .layer_1_marks path").all()
    both = [candidates(compared, revision) for revision in ("HEAD", experiment_of(compared))]
    assert len(points) == sum(map(len, both))
    # One colour for each search.
    assert len({point.get_attribute("stroke") for point in points}) == len(both)


def test_the_confusion_matrix_shows_recall_in_numbers(on_plots: Visitor, compared: Project) -> None:
    shown = plot(on_plots, "confusion matrix").text_content()
    for revision in ("HEAD", experiment_of(compared)):
        found = figures(compared, revision)
        for name, recall in found["recall"].items():
            assert f"{round(recall * found['support'][name])} ({recall:.1%})" in shown


def test_axes_are_labelled_in_words(on_plots: Visitor) -> None:
    axes = {
        "validation accuracy": ("epoch of the final training", "validation accuracy"),
        "loss": ("epoch of the final training", "cross-entropy"),
        "confusion matrix": ("class", "predicted"),
        "ROC of each class": ("false positive rate", "true positive rate"),
    }
    for title, labels in axes.items():
        titles = (
            on_plots.page.locator("svg.marks").filter(has_text=title).locator(".role-axis-title").all_text_contents()
        )
        assert set(labels) <= set(titles), title


def test_dvcs_own_page_draws_nothing_without_a_network(visitor: Visitor, compared: Project) -> None:
    compared.dvc("plots", "show", "--out", "own")
    visitor.page.goto((compared.folder / "own/index.html").as_uri())
    assert visitor.page.locator("svg").count() == 0
    assert visitor.asked_elsewhere
    assert visitor.complaints
    # Why README.md says what to type instead.
    visitor.asked_elsewhere.clear()
    visitor.complaints.clear()


def test_the_table_of_experiments_fits_a_terminal(compared: Project) -> None:
    shown = compared.experiments(columns=80)
    assert any(f"[{OTHER}]" in line for line in shown)
    assert max(map(len, shown)) <= 80


def experiment_of(project: Project) -> str:
    """Return the commit of the experiment."""
    return project.git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{OTHER}").strip()
