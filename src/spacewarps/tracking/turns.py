"""One promotion at a time, on whatever machines, so that each is decided against the champion that the last one left.

The store has no locks that last as long. So whoever asks puts a tag on the registered model, and then looks for those
of others: of any two at least the second sees the first. Nobody goes on beside the tag of another; who asked later
takes the own one away until the other has ended.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from spacewarps.processes import has_ended, name_of
from spacewarps.progress import say
from spacewarps.tracking.registry import Registry

# Followed by the time at which a process asked, and by what tells it from others; the value is its name.
_TURN_TAG = "spacewarps.promoting."
_PAUSE_SECONDS = 0.5
# Whether a process on another machine has ended nobody here knows; no promotion takes as long.
_LONGEST_SECONDS = 3600.0


@contextmanager
def turn(registry: Registry) -> Iterator[None]:
    """Let one process at a time into the block for a registered model that is there, the first that asked first.

    Raises:
        TrackingError: MLflow fails.
    """
    own = f"{_TURN_TAG}{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    try:
        _ask(registry, own)
        if _others(registry, own):
            say(f"another promotion of {registry.name} is under way; this one comes after it")
        while others := _others(registry, own):
            if min(others) < own:
                registry.delete_tag(own)
                while _others(registry, own):
                    time.sleep(_PAUSE_SECONDS)
                _ask(registry, own)
            else:
                time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        registry.delete_tag(own)


def _ask(registry: Registry, own: str) -> None:
    registry.set_tag(own, name_of(psutil.Process()))


def _others(registry: Registry, own: str) -> list[str]:
    """Return the tags of others, but for those that a killed process has left: these are taken away."""
    found = []
    for tag, owner in registry.tags().items():
        if not tag.startswith(_TURN_TAG) or tag == own:
            continue
        ended = has_ended(owner)
        if ended or (ended is None and time.time() - _asked_at(tag) > _LONGEST_SECONDS):
            registry.delete_tag(tag)
        else:
            found.append(tag)
    return found


def _asked_at(tag: str) -> float:
    digits = tag.removeprefix(_TURN_TAG).partition("-")[0]
    return int(digits) / 1e9 if digits.isdecimal() else 0.0
