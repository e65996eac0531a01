"""Imports that take seconds, in less; and what to do about those that are missing."""

import gc
import importlib
from types import ModuleType


def import_quickly(name: str) -> ModuleType:
    """Import a module without Python's garbage collector.

    The collector would look through all that is imported again and again, and find nothing: that is a fifth of what the
    imports of a stage take. Modules stay, so it never looks through these later either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def extra_missing(extra: str, *modules: str) -> str:
    """Return in words that ``modules`` are not there, which ``extra`` of this package would install."""
    return (
        f"the extra `{extra}` is not installed ({', '.join(modules)}): pip install 'spacewarps[{extra}]', "
        f"or '.[{extra}]' in the repository"
    )
