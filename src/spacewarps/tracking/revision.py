"""Which commit and which DVC experiment a run belongs to, and whether its files were those of the commit."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.git import run_git
from spacewarps.recorded_code import CODE
from spacewarps.tracking.pipeline_file import PIPELINES, ListedStage

COMMIT_TAG = "mlflow.source.git.commit"
EXPERIMENT_TAG, BASELINE_TAG = "dvc.experiment", "dvc.baseline"
#: The files that were not as in the commit, as JSON; params and outputs do not count.
CHANGED_TAG = "spacewarps.changed"

#: How many are named at most: MLflow takes a tag with so many names of such a length, whatever characters they have.
MOST_NAMED = 8
_LENGTH = 100


def git_and_dvc_tags(stages: Iterable[ListedStage]) -> dict[str, str]:
    """Return the commit, what of the code and inputs of ``stages`` is not of it, and the DVC experiment, as tags.

    There are as many as can be told.
    """
    tags = {}
    here = Path.cwd()
    try:
        commit = re.match(r"[0-9a-f]{40,64}$", run_git(here, "rev-parse", "HEAD").stdout.strip())
        if commit:
            tags[COMMIT_TAG] = commit[0]
            tags[CHANGED_TAG] = named_in_a_tag(_changed_files(here, stages))
    except (SpaceWarpsError, OSError):
        # There is no git or no repository, or git cannot be run.
        pass
    for variable, tag in (("DVC_EXP_NAME", EXPERIMENT_TAG), ("DVC_EXP_BASELINE_REV", BASELINE_TAG)):
        if os.environ.get(variable):
            tags[tag] = os.environ[variable]
    return tags


def named_in_a_tag(files: Sequence[str]) -> str:
    """Return ``files`` as the value of :data:`CHANGED_TAG`, as many as are named."""
    return json.dumps([name[:_LENGTH] for name in files[:MOST_NAMED]])


def _changed_files(folder: Path, stages: Iterable[ListedStage]) -> list[str]:
    """Return what decides the results of ``stages``, and is neither in the commit nor ignored by git."""
    said = run_git(
        folder,
        *("--no-optional-locks", "--literal-pathspecs"),
        *("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--"),
        *_places_that_decide(stages),
    ).stdout
    return [line[3:] for line in said.split("\0") if line]


def files_that_differ(folder: Path, before: str, after: str, stages: Iterable[ListedStage]) -> list[str]:
    """Return what decides the results of ``stages``, and is another in the commit ``after`` than in ``before``."""
    said = run_git(
        folder,
        "--literal-pathspecs",
        *("diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after, "--"),
        *_places_that_decide(stages),
    ).stdout
    return [name for name in said.split("\0") if name]


def _places_that_decide(stages: Iterable[ListedStage]) -> list[str]:
    stages = list(stages)
    outputs = [output for stage in stages for output in stage.outputs]
    inputs = {place for stage in stages for place in stage.inputs if not any(map(place.is_relative_to, outputs))}
    # What lies outside the project is nobody's commit. DVC's own small file stands for data that DVC tracks.
    inside = sorted(str(place) for place in inputs if not place.is_absolute() and ".." not in place.parts)
    return [*map(str, PIPELINES), str(CODE), *inside, *(f"{place}.dvc" for place in inside)]
