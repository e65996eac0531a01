"""What the figures of ``reports/metrics.json`` are called in MLflow, in groups that its pages show one after another.

MLflow makes a section of its charts of what stands before a slash, in the order of the alphabet, and shows metrics
without one last. So the test result comes first, then what it is compared with.
"""

from collections.abc import Mapping

TEST, BASELINE, CLASSES, DATA = "test", "test-baseline", "test-classes", "test-data"
INTERVAL, SETS = "test-interval", "test-sets"
#: No metric or param may be called as one of them, as a store of files makes a folder of each.
GROUPS = frozenset({TEST, BASELINE, CLASSES, DATA, INTERVAL, SETS})

_OF_DATA = ("samples", "sources", "support.")
_OF_INTERVAL = ("_low", "_high", "confidence")


def in_groups(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers among flat ``metrics``, such as ``test.accuracy``, by their names in MLflow, group by group.

    A run's page lists metrics in the order in which they were written.
    """
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    grouped = {_grouped(name): float(value) for name, value in numbers.items()}
    return dict(sorted(grouped.items(), key=lambda item: item[0].partition("/")))


def _grouped(name: str) -> str:
    part, _, figure = name.partition(".")
    if part == "baseline":
        return f"{BASELINE}/{figure}"
    if part != TEST:
        return name
    if figure.startswith(_OF_DATA):
        return f"{DATA}/{figure}"
    if figure.startswith("sets."):
        return f"{SETS}/{figure.removeprefix('sets.')}"
    if "." in figure:
        return f"{CLASSES}/{figure}"
    return f"{INTERVAL if figure.endswith(_OF_INTERVAL) else TEST}/{figure}"
