"""The parts of the page on how the network came about."""

import math
from typing import Any

from spacewarps.evaluation.report import final_training_in_words
from spacewarps.report.charts import plot_accuracies, plot_growth, plot_losses
from spacewarps.report.facts import NORMAL_95, Facts, label_of
from spacewarps.report.markup import Markup, element, joined
from spacewarps.report.tables import figure, table
from spacewarps.writing import in_percent


def growth(facts: Facts) -> Markup:
    """Return what was tried at each step, what was decided and why."""
    search = facts.search
    what, interval, values = facts.values_of_candidates()
    blocks = [label_of(block) for block in search["architecture"]]
    stopped = search["stopped"].replace("_", " ")
    told = (
        f"The network has {len(blocks)} block{'s' * (len(blocks) != 1)} ({', '.join(blocks)}) and "
        f"{search['total_trainable_params']:,} parameters. The search ended with validation accuracy "
        f"{search['final_val_accuracy']:.1%} ({stopped})."
    )
    layers = {candidate["layer"] for candidate in search["candidates"]}
    description = (
        f"{len(search['candidates'])} candidates at {len(layers)} layers; those that joined are filled and linked: "
        f"{', '.join(blocks)}."
    )
    controls = facts.controls()
    dashed = (
        " Dashed: the control of the layer, which is the network before it after as many epochs." if controls else ""
    )
    return joined(
        element("p", told),
        figure(
            plot_growth(search["candidates"], values, what, description, controls),
            f"Each candidate by its layer, named by k, its number of channels. Filled: joined the network. Bars: "
            f"{interval}.{dashed}",
        ),
        _decisions(search),
        _candidates(facts, what, values),
    )


def _decisions(search: Any) -> Markup:
    decisions = search.get("decisions", [])
    if not decisions:
        return element(
            "p",
            "One split was searched, so no paired differences are known: at each step the best candidate joined while "
            "it was better than what had joined before by more than search.min_delta.",
        )
    rows = []
    for decision in decisions:
        gain, error = decision.get("gain"), decision.get("gain_error")
        known = gain is not None and error is not None
        interval = f"{gain - NORMAL_95 * error:+.4f} to {gain + NORMAL_95 * error:+.4f}" if known else ""
        rows.append(
            [
                str(decision.get("layer", "")),
                "joins" if decision.get("joins") else "growth does not go on here",
                decision["sentence"],
                f"{gain:+.4f}" if gain is not None else "",
                interval,
            ]
        )
    return table(
        "What each step came to, and why. The gain is paired by sample; its 95% interval is that of a normal "
        "distribution.",
        ["step", "decision", "reason", "gain", "interval"],
        rows,
        numbers=2,
    )


def _candidates(facts: Facts, what: str, values: list[tuple[float, float, float]]) -> Markup:
    rows = [
        [
            str(candidate["layer"]),
            label_of(candidate),
            "yes" if candidate["chosen"] else "no",
            _number(value),
            f"{_number(low)} to {_number(high)}" if math.isfinite(low) and math.isfinite(high) else "",
            f"{candidate['val_accuracy']:.1%}",
        ]
        for candidate, (value, low, high) in zip(facts.search["candidates"], values, strict=True)
    ]
    heading = ["layer", "block", "in the network", what, "interval", "accuracy"]
    return element(
        "details",
        element("summary", f"All {len(rows)} candidates"),
        table("Every candidate, in the order of the steps.", heading, rows, numbers=3),
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "diverged"


def learning_curves(facts: Facts) -> Markup:
    """Return how the final training went."""
    best = facts.training.get("best_epoch")
    plots = [figure(plot_losses(facts.curves, best), "Losses of the final training.")]
    if facts.curves["val_accuracy"].notna().all():
        samples, sources = facts.held_out
        plots.append(
            figure(
                plot_accuracies(facts.curves, best, sources, facts.confidence),
                f"Accuracy on {samples} samples of {sources} sources that were held out, with its "
                f"{in_percent(facts.confidence)} interval for so many sources.",
            )
        )
    told = final_training_in_words(facts.training)
    return joined(element("p", told[0].upper() + told[1:]), element("div", *plots, class_="plots"))
