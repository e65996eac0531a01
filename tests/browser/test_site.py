"""The documentation's site, each page of it, on a telephone that reaches no network."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser.visitor import Visitor, visit
from tests.pipeline.project import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="the extra `docs` is not installed"),
]

_TELEPHONE = {"width": 390, "height": 844}
_LOOK = """() => ({
  links: [...document.querySelectorAll('a[href], img[src], link[href], script[src]')].map(e => e.href || e.src),
  names: [...document.querySelectorAll('[id]')].map(e => e.id),
  width: document.documentElement.scrollWidth,
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy of its pages, beside which Sphinx writes pages of its own."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("api"))
    for beside in ROOT.iterdir():
        if beside.name != "docs":
            (folder / beside.name).symlink_to(beside)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--builder", "html", "docs", "site"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def seen(site: Path, browser: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """What each page holds, by its address."""
    with visit(browser) as visitor:
        visitor.page.set_viewport_size(_TELEPHONE)
        yield {page.as_uri(): look_at(visitor, page) for page in sorted(site.rglob("*.html"))}


def look_at(visitor: Visitor, page: Path) -> dict[str, Any]:
    visitor.page.goto(page.as_uri())
    found: dict[str, Any] = visitor.page.evaluate(_LOOK)
    assert visitor.complaints == [], page
    assert visitor.asked_elsewhere == [], page
    return found


def test_every_page_opens_and_no_link_within_the_site_is_dead(seen: dict[str, dict[str, Any]]) -> None:
    assert len(seen) > 20
    dead = []
    for page, found in seen.items():
        for link in found["links"]:
            parts = urlsplit(link)
            if parts.scheme != "file":
                continue
            target = parts._replace(fragment="", query="").geturl()
            named = unquote(parts.fragment)
            if not Path(unquote(parts.path)).is_file() or (
                named and target in seen and named not in seen[target]["names"]
            ):
                dead.append((page, link))
    assert dead == []


def test_no_page_is_wider_than_a_telephone(seen: dict[str, dict[str, Any]]) -> None:
    assert [(page, found["width"]) for page, found in seen.items() if found["width"] > _TELEPHONE["width"]] == []
