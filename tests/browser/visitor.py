"""A person at a browser that reaches no other machine, and who notices what goes wrong on a page."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HERE = "127.0.0.1"
WIDTH, HEIGHT = 1280, 900
# Of a page's first load on a machine that is busy.
SECONDS = 120.0
# What MLflow's own pages (3.17) complain of, whatever they show: a server without accounts, and a table's resizing.
MLFLOWS_OWN = ("mlflow/users/current", "ResizeObserver loop")


class Visitor:
    """A tab of a browser.

    Attributes:
        page: what a test looks at and clicks on.
        asked_elsewhere: addresses on other machines that a page has asked for.
        complaints: errors that pages have written to the console, without MLflow's own.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked_elsewhere: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", lambda request: self._note_request(request.url))
        page.on("console", lambda message: self._note_message(message))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note_request(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != HERE:
            self.asked_elsewhere.append(address)

    def _note_message(self, message: Any) -> None:
        told = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(own in told for own in MLFLOWS_OWN):
            self.complaints.append(told)

    def sees(self, text: str) -> Any:
        """Wait until ``text`` is shown somewhere on the page, and return where."""
        # Nothing is scrolled for it, so that a test can ask whether it is in the window.
        found = self.page.get_by_text(text).filter(visible=True).first
        found.wait_for()
        return found

    def text(self) -> str:
        """Return all that the page shows."""
        return str(self.page.inner_text("body"))


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """Start the system's Chromium; skip the test where there is none, or nothing to drive it with."""
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium)")
    # No name but this machine's leads anywhere, so that a page which asks for another does without.
    only_here = f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HERE}"
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[only_here], timeout=SECONDS * 1000)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def visit(browser: Any) -> Iterator[Visitor]:
    """Open a tab that remembers nothing of others; afterwards no page may have complained or asked elsewhere."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    try:
        visitor = Visitor(context.new_page())
        yield visitor
        assert visitor.asked_elsewhere == []
        assert visitor.complaints == []
    finally:
        context.close()
