"""Whether a result is all of one run of the stages, as only then the params in ``dvc.lock`` are those that it is of."""

import hashlib
from collections.abc import Mapping

from spacewarps.commands.results import METRICS, SEARCH, TRAINING
from spacewarps.commands.revisions import Revision
from spacewarps.reading import MAX_JSON_BYTES
from spacewarps.tracking.lock_file import LOCK, LockedStage


def doubt_of(revision: Revision, stages: Mapping[str, LockedStage]) -> str | None:
    """Return in words which part of the result at ``revision`` is of something else than the others, or nothing.

    Args:
        revision: one state of the project.
        stages: what its ``dvc.lock`` has of those that led to the result.
    """
    return _another_input(stages) or _another_report(revision, stages)


def _another_input(stages: Mapping[str, LockedStage]) -> str | None:
    """Look for a stage that has read what an earlier one no longer has: only some were run, or a run was cut short."""
    written = {out.path: (name, out.md5) for name, stage in stages.items() for out in stage.outs}
    for name, stage in stages.items():
        for dep in stage.deps:
            maker, digest = written.get(dep.path, (name, dep.md5))
            if digest != dep.md5:
                return f"the results of {name} are of another {dep.path} than the one that {LOCK} has of {maker}"
    return None


def _another_report(revision: Revision, stages: Mapping[str, LockedStage]) -> str | None:
    """Look for a report that is not what DVC recorded: its stage was run by hand, say."""
    for name, stage in stages.items():
        for out in stage.outs:
            if not out.md5 or out.path.name not in (METRICS, SEARCH, TRAINING):
                continue
            try:
                content = revision.read(out.path, at_most=MAX_JSON_BYTES)
            except OSError:
                # It is missed where it is needed.
                continue
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != out.md5:
                return f"{out.path} is not the one that {LOCK} has of {name}, so nobody knows which params it is of"
    return None
