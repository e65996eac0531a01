"""What accuracy hides: classes that the network does not see, in words."""

from collections.abc import Callable
from typing import Any

from spacewarps.evaluation.comparison import MOST_FREQUENT, learned_baselines

_NAMED = 10


def blind_spots(metrics: dict[str, Any], written: Callable[[str], str] = str) -> list[str]:
    """Return a sentence for each thing that the accuracy of ``metrics`` does not tell; none where it tells enough.

    Args:
        metrics: what ``reports/metrics.json`` holds.
        written: makes the name of a class fit where the sentences will stand.
    """
    test, frequent = metrics["test"], metrics["baseline"][MOST_FREQUENT]
    support, never = test["support"], test["never_predicted"]
    missed = [name for name, recall in test["recall"].items() if support[name] and not recall and name not in never]
    absent = [name for name, samples in support.items() if not samples]
    sentences = []
    if never:
        sentences.append(
            f"never predicted: {_listed(never, written)} ({_share(never, test)}); "
            f"accuracy {test['accuracy']:.4f}, balanced accuracy {test['balanced_accuracy']:.4f}"
        )
    if missed:
        sentences.append(
            f"predicted, but never where it was right: {_listed(missed, written)} ({_share(missed, test)})"
        )
    if test["accuracy"] <= frequent["accuracy"]:
        sentences.append(
            f"accuracy {test['accuracy']:.4f} is not above that of always answering the most frequent class of "
            f"training, {frequent['accuracy']:.4f}"
        )
    for name, found in learned_baselines(metrics).items():
        gain = found["gain"]
        # Nobody expects a network to be better than its own architecture.
        if gain["accuracy_low"] <= 0 and name != "found_anew":
            surer = f"; log loss {gain['log_loss']:.4f} lower, beyond noise" if gain["log_loss_low"] > 0 else ""
            sentences.append(
                f"accuracy not better beyond noise than that of {found['classifier']}, {found['accuracy']:.4f}: "
                f"{gain['accuracy']:+.4f}, interval {gain['accuracy_low']:+.4f} to {gain['accuracy_high']:+.4f}{surer}"
            )
    if absent:
        sentences.append(f"without a test sample, so not measured: {_listed(absent, written)}")
    return sentences


def _listed(names: list[str], written: Callable[[str], str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(written(name) for name in names[:_NAMED]) + more


def _share(names: list[str], test: dict[str, Any]) -> str:
    return f"{sum(test['support'][name] for name in names)} of {test['samples']} test samples"
