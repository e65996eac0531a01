"""The words of the library in those of ``params.yaml``.

Errors of the library name its own arguments, in backticks: a program in Python has no ``params.yaml``.
"""

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from spacewarps.params import Params

_ARGUMENT = re.compile(r"`([a-z][a-z_.]*)`")


def in_params(message: str) -> str:
    """Return ``message`` with each argument replaced by the param that sets it, or by all that may have.

    >>> in_params("lower `k_candidates` or `threads`, then run `dvc repro`")
    'lower search.k_candidates or compute.threads or search.threads, then run `dvc repro`'
    """
    return _ARGUMENT.sub(lambda found: " or ".join(_params_of(found[1])) or found[0], message)


def _params_of(argument: str) -> list[str]:
    return [name for name in _names(Params) if name == argument or name.endswith(f".{argument}")]


def _names(section: type[Any], above: str = "") -> Iterator[str]:
    for name, kind in get_type_hints(section).items():
        yield f"{above}{name}"
        if is_dataclass(kind):
            yield from _names(kind, f"{above}{name}.")  # type: ignore[arg-type]
