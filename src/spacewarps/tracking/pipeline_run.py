"""Which MLflow run a stage belongs to: one top-level run for each run of the pipeline, one below it for each stage."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from spacewarps.processes import name_of
from spacewarps.settings import shown
from spacewarps.tracking.hashes import dvc_hash
from spacewarps.tracking.notes import OUTPUTS_TAG, PIPELINE_TAG, STAGE_TAG
from spacewarps.tracking.origins import OTHER_PARAMS
from spacewarps.tracking.pipeline_file import PARAMS_FILE, ListedStage, listed_stages
from spacewarps.tracking.revision import COMMIT_TAG, git_and_dvc_tags
from spacewarps.tracking.root import project_root
from spacewarps.tracking.runner import is_run_by_dvc, runner_of_the_pipeline
from spacewarps.tracking.stages_around import StagesAround, stages_around
from spacewarps.tracking.tracker import Tracker


@dataclass(frozen=True)
class StageRun:
    """The run of one stage, below the run of the pipeline.

    Args:
        tracker: takes what is noted.
        pipeline_id: the id of the pipeline's run.
        run_id: that of the stage's own.
        pipeline_name: what MLflow calls the former.
        tags: the commit, what is not of it, and the DVC experiment, as far as they are known.
        warnings: what the params on the pipeline's run hide, as Markdown.
    """

    tracker: Tracker
    pipeline_id: str
    run_id: str
    pipeline_name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def log_metrics(self, metrics: Mapping[str, float], *, final: bool = False) -> None:
        """Log metrics on the stage's run; ``final`` ones on the pipeline's too."""
        self.tracker.log(self.run_id, metrics=metrics)
        if final:
            self.tracker.log(self.pipeline_id, metrics=metrics)

    def log_machine(self, kind: str) -> None:
        """Note on the stage's run the kind of machine that it computes on."""
        self.tracker.log(self.run_id, tags={"spacewarps.machine": kind})

    def log_artifacts(self, path: Path) -> None:
        """Store a file, or all files of a folder, with the stage's run."""
        self.tracker.log_artifacts(self.run_id, path)


@contextmanager
def stage_run(stage: str, params: Mapping[str, object]) -> Iterator[StageRun]:
    """Open the run of ``stage`` below the run of this pipeline run, which the first stage creates.

    A stage whose params or commit are others than those of the stages before it creates another one: what the first
    shows would not have made its result. Below the pipeline's run stands a run for each stage that DVC does not run, as
    its results are there already.

    Args:
        stage: the stage's name.
        params: all params, flat; they stand on the pipeline's run and on the stage's.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
    """
    tracker = Tracker(project_root())
    status = "FAILED"
    try:
        stages = listed_stages(params)
        common = git_and_dvc_tags(stages.values())
        name = _name_of_pipeline_run(common)
        pipeline_id = _start_pipeline_run(tracker, name, params, common)
        around = stages_around(stage, stages, params) if is_run_by_dvc() else StagesAround()
        for other, outputs in around.before.items():
            tracker.note_reused(other, pipeline_id, outputs)
        own = {STAGE_TAG: stage, "mlflow.source.name": f"spacewarps {stage}"}
        run_id = tracker.start_run(stage, pipeline_id, {**common, **own})
        tracker.log(run_id, params=params)
        yield StageRun(tracker, pipeline_id, run_id, name, common, _warnings(around, params))
        status = "FINISHED"
        if stage in stages and _log_outputs(tracker, run_id, stages[stage]) == around.own:
            for other, outputs in around.after.items():
                tracker.note_reused(other, pipeline_id, outputs)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.close(status)


def _warnings(around: StagesAround, params: Mapping[str, object]) -> tuple[str, ...]:
    """Return of each stage before that ran with other params than stand on the pipeline's run, with which."""
    return tuple(
        f"The stage {stage} {OTHER_PARAMS}: "
        + ", ".join(f"`{name}` was {shown(then)}, not {shown(params.get(name))}" for name, then in others.items())
        for stage, others in around.other_params.items()
    )


def _log_outputs(tracker: Tracker, run: str, stage: ListedStage) -> dict[str, str]:
    """Log the hash of each output by its path, and return what could be told."""
    # DVC writes its lock when the stage's process has ended. The work is done, and does not fail for want of a note.
    with suppress(OSError):
        hashes = {str(path): dvc_hash(path) for path in stage.outputs if path.exists()}
        tracker.log(run, tags={OUTPUTS_TAG: json.dumps(hashes)})
        return hashes
    return {}


def _name_of_pipeline_run(tags: Mapping[str, str]) -> str:
    commit = tags.get(COMMIT_TAG, "")[:7]
    return os.environ.get("DVC_EXP_NAME") or (f"pipeline {commit}" if commit else "pipeline")


def _start_pipeline_run(tracker: Tracker, name: str, params: Mapping[str, object], tags: Mapping[str, str]) -> str:
    """Start the run of this pipeline run, unless another stage has: then that one goes on."""
    labels = {**tags, PIPELINE_TAG: _pipeline_key(params, tags), "mlflow.source.name": "dvc.yaml"}
    run = tracker.start_run(name, None, labels, params=params, found_by=PIPELINE_TAG)
    # Only MLflow knows whether another stage has stored it.
    if Path(PARAMS_FILE).is_file():
        tracker.log_artifacts(run, Path(PARAMS_FILE))
    return run


def _pipeline_key(params: Mapping[str, object], tags: Mapping[str, str]) -> str:
    """Return what the stages of one pipeline run have in common, and no other run.

    It is the process that runs them, and what stands on their run: the params and the commit.
    """
    made_by = json.dumps([params, tags.get(COMMIT_TAG)], sort_keys=True, default=str)
    digest = hashlib.sha256(made_by.encode()).hexdigest()[:16]
    key = f"{name_of(runner_of_the_pipeline())} {os.environ.get('DVC_EXP_NAME', '')} {digest}"
    # The key stands in quotes when it is searched for.
    return re.sub(r"[^\w.-]", "_", key)
