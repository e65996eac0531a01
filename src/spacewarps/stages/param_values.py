"""Params by their names with dots, and where two sets of them differ."""

from collections.abc import Iterator
from typing import Any

#: What a param that is not there has for a value.
NO_VALUE = object()


def value_of(values: Any, name: str) -> Any:
    """Return what sections hold under a name with dots; :data:`NO_VALUE` where there is no such param."""
    for part in name.split("."):
        values = values.get(part, NO_VALUE) if isinstance(values, dict) else NO_VALUE
    return values


def differences(name: str, now: Any, then: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield each param at and below ``name`` that has two values, with both: now, then."""
    if isinstance(now, dict) and isinstance(then, dict):
        for part in {**now, **then}:
            yield from differences(f"{name}.{part}", now.get(part, NO_VALUE), then.get(part, NO_VALUE))
    elif now != then:
        yield f"{name:.100}", (now, then)
