"""The stages around one that runs: DVC leaves alone those whose results ``dvc.lock`` has already."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from spacewarps.reading import read_bytes
from spacewarps.tracking.lock_file import Lock, LockedStage, Place, params_of, read_lock
from spacewarps.tracking.pipeline_file import PIPELINES, ListedStage
from spacewarps.yaml_params import MAX_BYTES


@dataclass(frozen=True)
class StagesAround:
    """What ``dvc.lock`` has of the other stages as one begins: of each the hashes of its outputs by their paths.

    Attributes:
        before: those that it needs. DVC runs stages in order, so each has run before it, or has nothing to do.
        other_params: the params of those before that they ran with and are others now, by stage and name, as they were.
        own: its own outputs as it last wrote them.
        after: those that need it. If it writes the same again, it gives none of them a reason to run.
    """

    before: Mapping[str, dict[str, str]] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    other_params: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    after: Mapping[str, dict[str, str]] = field(default_factory=dict)


def stages_around(stage: str, listed: Mapping[str, ListedStage], params: Mapping[str, object]) -> StagesAround:
    """Return the stages around ``stage`` that the pipelines in this folder list and their locks have.

    Args:
        stage: its name.
        listed: what ``dvc.yaml`` lists.
        params: all params as they are now, flat.
    """
    if stage not in listed:
        return StagesAround()
    pipeline, *others = (_read(file.with_suffix(".lock")) for file in PIPELINES)
    recorded = {name: each for lock in (pipeline, *others) for name, each in lock.stages.items() if name in listed}
    # It may never have run, and need more than when it did.
    now = Lock(
        stages={
            **recorded,
            stage: LockedStage(deps=[Place(path=PurePosixPath(place)) for place in listed[stage].inputs]),
        }
    )
    needed = {name: each for name, each in now.led_to(stage).items() if name != stage}
    before = {name: each.hashes for name, each in needed.items()}
    differing = {name: other for name, each in needed.items() if (other := _others(params_of({name: each}), params))}
    if stage not in pipeline.stages:
        return StagesAround(before, other_params=differing)
    # `dvc repro` does not come to those of the other pipelines.
    after = [name for name in pipeline.stages if name in listed and name != stage and stage in pipeline.led_to(name)]
    own, after_it = recorded[stage].hashes, {name: recorded[name].hashes for name in after}
    return StagesAround(before, own, differing, after_it)


def _others(then: Mapping[str, Any], now: Mapping[str, object]) -> dict[str, Any]:
    # Of a section without params nothing stands among flat ones.
    return {name: value for name, value in then.items() if value != {} and now.get(name) != value}


def _read(lock: Path) -> Lock:
    with suppress(OSError, ValueError):
        return read_lock(read_bytes(lock, at_most=MAX_BYTES).decode("utf-8"))
    return Lock(stages={})
