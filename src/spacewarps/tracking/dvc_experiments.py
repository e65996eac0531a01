"""DVC's experiments as git has them: a commit for each, which nothing but a ref of DVC leads to."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacewarps.errors import SpaceWarpsError
from spacewarps.git import run_git
from spacewarps.settings import flatten
from spacewarps.tracking.lock_file import LOCK, LockedStage, read_lock
from spacewarps.tracking.pipeline_file import PARAMS_FILE, PIPELINES, ListedStage
from spacewarps.tracking.revision import files_that_differ
from spacewarps.yaml_params import NotYamlError, read_yaml

_REF = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38,62})/(.+)")
_MS = 1000


@dataclass(frozen=True)
class DvcExperiment:
    """An experiment that DVC has run to its end.

    Attributes:
        name: what DVC calls it.
        baseline: the commit that it was run from.
        commit: what DVC made of it.
        time: when, in milliseconds since 1970: the last of the second, as git counts seconds.
    """

    name: str
    baseline: str
    commit: str
    time: int


def list_experiments(root: Path) -> list[DvcExperiment]:
    """Return all experiments in the repository of ``root``, the oldest first; none outside of git."""
    try:
        told = run_git(
            root,
            *("for-each-ref", "--sort=committerdate"),
            "--format=%(objectname) %(committerdate:unix) %(refname)",
            "refs/exps/*/*/*",
        ).stdout
    except (SpaceWarpsError, OSError):
        return []
    found = []
    for line in told.splitlines():
        commit, seconds, ref = line.split(" ", 2)
        if parts := _REF.fullmatch(ref):
            found.append(DvcExperiment(parts[3], parts[1] + parts[2], commit, int(seconds) * _MS + _MS - 1))
    return found


@dataclass(frozen=True)
class Committed:
    """What the commit of an experiment holds of the project in a folder.

    Attributes:
        stages: what ``dvc.lock`` records of those that ``dvc.yaml`` lists, in the order of the former.
        params: all, flat.
        params_file: the file that they are in.
        metrics: what the report of the evaluation holds, flat; nothing where there is none.
        changed: code and inputs that are others than in the baseline.
    """

    stages: Mapping[str, LockedStage]
    params: Mapping[str, Any]
    params_file: bytes
    metrics: Mapping[str, Any]
    changed: list[str]

    @property
    def last(self) -> str:
        """The stage whose result no other needs; of several, the last."""
        needed = {
            name
            for name, stage in self.stages.items()
            for other in self.stages.values()
            if other is not stage and other.needs(stage)
        }
        # A damaged lock may let stages need each other.
        return [name for name in self.stages if name not in needed or len(needed) == len(self.stages)][-1]


def read_committed(experiment: DvcExperiment, root: Path) -> Committed | None:
    """Return what an experiment's commit holds of the project in ``root``; None where that has no result there.

    Raises:
        SpaceWarpsError: git fails.
    """
    if not _is_of_the_project(experiment, root):
        return None
    params_file = _show(experiment, root, PARAMS_FILE)
    try:
        listed, values = read_yaml(_show(experiment, root, PIPELINES[0])), read_yaml(params_file)
        recorded = read_lock(_show(experiment, root, LOCK)).stages
        stages = {name: stage for name, stage in recorded.items() if name in listed["stages"]}
        params = flatten(values)
    except (NotYamlError, ValueError, TypeError, KeyError, AttributeError):
        # It is of a time before the project, or not one of this kind.
        return None
    if not stages:
        return None
    metrics: dict[str, Any] = {}
    with suppress(ValueError, AttributeError):
        metrics = flatten(json.loads(_show(experiment, root, Path(str(params.get("paths.reports")), "metrics.json"))))
    places = [
        ListedStage([Path(dep.path) for dep in stage.deps], [Path(out.path) for out in stage.outs], {})
        for stage in stages.values()
    ]
    changed = files_that_differ(root, experiment.baseline, experiment.commit, places)
    return Committed(stages, params, params_file.encode(), metrics, changed)


def _is_of_the_project(experiment: DvcExperiment, root: Path) -> bool:
    """Say whether an experiment may be of the project in ``root``, where several share a repository."""
    here = run_git(root, "rev-parse", "--show-prefix").stdout.rstrip("\n")
    differ = run_git(root, "diff-tree", "-r", "-z", "--name-only", experiment.baseline, experiment.commit).stdout
    names = differ.rstrip("\0").split("\0")
    return names == [""] or any(name.startswith(here) for name in names)


def _show(experiment: DvcExperiment, root: Path, path: Path | str) -> str:
    """Return the text of a file; nothing where there is none."""
    return run_git(root, "show", f"{experiment.commit}:./{path}", may_fail=True).stdout
