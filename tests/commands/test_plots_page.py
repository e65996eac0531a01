import sys
from types import SimpleNamespace

import pytest
from dvc_render.html import HTML  # type: ignore[import-untyped]

from spacewarps.commands.plots_page import page
from spacewarps.errors import SpaceWarpsError
from tests.complaints import complaint


def test_the_page_of_plots_loads_nothing_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package is not among those that a test may count on.
    scripts = SimpleNamespace(javascript_bundle=lambda: "window.vegaEmbed = drawn")
    monkeypatch.setitem(sys.modules, "vl_convert", scripts)
    drawn = HTML(page()).with_scripts('<script src="https://elsewhere"></script>').with_element("<p>a plot</p>").embed()
    assert "window.vegaEmbed = drawn" in drawn
    assert "<p>a plot</p>" in drawn
    assert "https://" not in drawn
    assert "{" not in drawn


def test_without_the_package_that_brings_the_scripts_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert "pip install vl-convert-python" in complaint(SpaceWarpsError, page)
