"""The stages around one that runs: DVC leaves alone those whose results ``dvc.lock`` has already."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from spacewarps.reading import read_bytes
from spacewarps.tracking.lock_file import Lock, LockedStage, Place, read_lock
from spacewarps.tracking.pipeline_file import PIPELINES, ListedStage
from spacewarps.yaml_params import MAX_BYTES


@dataclass(frozen=True)
class StagesAround:
    """What ``dvc.lock`` has of the other stages as one begins: of each the hashes of its outputs by their paths.

    Attributes:
        before: those that it needs. DVC runs stages in order, so each has run before it, or has nothing to do.
        own: its own outputs as it last wrote them.
        after: those that need it. If it writes the same again, it gives none of them a reason to run.
    """

    before: Mapping[str, dict[str, str]] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    after: Mapping[str, dict[str, str]] = field(default_factory=dict)


def stages_around(stage: str, listed: Mapping[str, ListedStage]) -> StagesAround:
    """Return the stages around ``stage`` that the pipelines in this folder list and their locks have.

    Args:
        stage: its name.
        listed: what ``dvc.yaml`` lists.
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
    before = {name: each.hashes for name, each in now.led_to(stage).items() if name != stage}
    if stage not in pipeline.stages:
        return StagesAround(before)
    # `dvc repro` does not come to those of the other pipelines.
    after = [name for name in pipeline.stages if name in listed and name != stage and stage in pipeline.led_to(name)]
    return StagesAround(before, recorded[stage].hashes, {name: recorded[name].hashes for name in after})


def _read(lock: Path) -> Lock:
    with suppress(OSError, ValueError):
        return read_lock(read_bytes(lock, at_most=MAX_BYTES).decode("utf-8"))
    return Lock(stages={})
