"""The page: one file that asks for nothing else: what a result is, how it came about, and what is wrong in it."""

import base64
import hashlib
from pathlib import Path

from spacewarps.evaluation.blind_spots import blind_spots
from spacewarps.report.facts import Facts
from spacewarps.report.markup import Markup, element
from spacewarps.report.result_sections import calibration, comparison, confusion, dependences
from spacewarps.report.script import SCRIPT
from spacewarps.report.source_sections import audit, repeat
from spacewarps.report.stamp_section import stamps
from spacewarps.report.style import STYLE
from spacewarps.report.training_sections import growth, learning_curves
from spacewarps.writing import write_text


def write_page(path: Path, facts: Facts) -> None:
    """Write the page of a result to ``path``: the same bytes for the same facts."""
    write_text(path, f"<!DOCTYPE html>\n{_page(facts)}\n")


def _page(facts: Facts) -> Markup:
    sections = {
        "growth": ("How the architecture grew", growth(facts)),
        "learning": ("Learning curves", learning_curves(facts)),
        "comparison": ("Comparison", comparison(facts)),
        "calibration": ("Calibration and coverage", calibration(facts)),
        "confusion": ("Confusion", confusion(facts)),
        "dependence": ("What the accuracy depends on", dependences(facts)),
        "stamps": ("Stamps", stamps(facts)),
        "audit": ("The data", audit(facts)),
        "repeat": ("How to repeat it", repeat(facts)),
    }
    links = [element("li", element("a", title, href=f"#{name}")) for name, (title, _) in sections.items()]
    return element(
        "html",
        _head(),
        element(
            "body",
            element("a", "Skip to the result", href="#result", class_="skip"),
            element(
                "header",
                element("h1", "Result on the test split"),
                element("p", facts.answer(), class_="answer"),
                *(
                    element("p", f"{sentence[0].upper()}{sentence[1:]}.", class_="warn")
                    for sentence in blind_spots(facts.evaluation.metrics)
                ),
            ),
            element("nav", element("ul", *links), aria_label="Parts of this page"),
            element(
                "main",
                *(
                    element(
                        "section",
                        element("h2", title, id=f"{name}-heading"),
                        body,
                        id=name,
                        aria_labelledby=f"{name}-heading",
                    )
                    for name, (title, body) in sections.items()
                ),
                id="result",
                tabindex="-1",
            ),
            element(
                "footer",
                "Written by Space Warps. This file needs no network. Commit, time and machine stand in run.json beside "
                "it and in MLflow, so that it has the same bytes whenever the same is computed again.",
            ),
            element("script", Markup(SCRIPT)),
        ),
        lang="en",
    )


def _head() -> Markup:
    # Nothing is fetched, and no other script or style than these two is heeded, whatever a catalogue holds.
    policy = (
        f"default-src 'none'; img-src data:; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "Space Warps: result on the test split"),
        element("style", Markup(STYLE)),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
