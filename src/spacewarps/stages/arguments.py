"""Names of arguments translated to params.

Errors of the library name its own arguments, in backticks: a program in Python has no ``params.yaml``.
"""

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from spacewarps.params import Params

# What a command's own options say in place of params.
_OPTIONS = {
    "init": {
        "catalog": "--catalog",
        "columns.id": "--id",
        "columns.label": "--label",
        "features": "--features",
        "images": "--images",
        "stamp_extension": "--extension",
    },
    "predict": {
        "catalog": "--catalog",
        "columns.id": "--id",
        "features": "the network's features",
        "images": "--images",
    },
}
_ARGUMENT = re.compile(r"`([a-z][a-z_.]*)`")


def in_params(message: str, stage: str) -> str:
    """Return ``message`` with each argument replaced by the param, or the option, that sets it for ``stage``.

    >>> in_params("lower `k_candidates` or `threads`, then run `dvc repro`", "search")
    'lower search.k_candidates or search.threads, then run `dvc repro`'
    """
    return _ARGUMENT.sub(lambda found: _param_of(found[1], stage) or found[0], message)


def _param_of(argument: str, stage: str) -> str | None:
    """Return the option, or the param that ends in ``argument``: of the stage's own section where there are several."""
    if argument in _OPTIONS.get(stage, {}):
        return _OPTIONS[stage][argument]
    found = [name for name in _names(Params) if name == argument or name.endswith(f".{argument}")]
    return next((name for name in found if name.startswith(f"{stage}.")), found[0] if found else None)


def _names(section: type[Any], above: str = "") -> Iterator[str]:
    for name, kind in get_type_hints(section).items():
        yield f"{above}{name}"
        if is_dataclass(kind):
            yield from _names(kind, f"{above}{name}.")  # type: ignore[arg-type]
