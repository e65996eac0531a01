"""Which MLflow run a stage belongs to: one top-level run for each run of the pipeline, one below it for each stage."""

import contextlib
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spacewarps.tracking.database import check_database
from spacewarps.tracking.failures import TrackingError, reason, without_password
from spacewarps.tracking.store import URI_VARIABLE, find_store, project_root
from spacewarps.tracking.tracker import Tracker

EXPERIMENT = "space-warps"
NAME_VARIABLE, ID_VARIABLE = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
PIPELINE_TAG = "spacewarps.pipeline"
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh"})


@dataclass(frozen=True)
class StageRun:
    """The run of one stage, below the run of the pipeline."""

    tracker: Tracker
    pipeline_id: str | None
    run_id: str | None

    def log_metrics(self, metrics: Mapping[str, float], *, final: bool = False) -> None:
        """Log metrics on the stage's run; ``final`` ones on the pipeline's too."""
        self.tracker.log(self.run_id, metrics=metrics)
        if final:
            self.tracker.log(self.pipeline_id, metrics=metrics)

    def log_artifacts(self, path: Path) -> None:
        """Store a file, or all files of a folder, with the stage's run."""
        if (run_id := self.run_id) is not None:
            store = self.tracker.client.log_artifacts if path.is_dir() else self.tracker.client.log_artifact
            self.tracker.attempt(lambda: store(run_id, str(path)))


def open_tracker(root: Path) -> Tracker:
    """Connect to MLflow: to the store that ``MLFLOW_TRACKING_URI`` names, else to the database at the project's root.

    ``MLFLOW_EXPERIMENT_NAME`` or ``MLFLOW_EXPERIMENT_ID`` names the runs' experiment, else it is ``space-warps``.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
    """
    start = time.monotonic()
    store = find_store(root)
    try:
        # A new store makes an experiment of its own, with a place for artifacts in the folder that it is made from.
        with contextlib.chdir(root), _alone_in(root if store.database is None else store.database.parent):
            check_database(store)
            client = MlflowClient(store.uri)
            experiment = _find_or_create_experiment(client, store.artifacts)
    except TrackingError:
        raise
    except Exception as error:
        # Each kind of store fails with errors of its own.
        raise TrackingError(
            f"MLflow at {without_password(store.uri)} cannot be used ({reason(error)}); check {URI_VARIABLE}"
        ) from None
    return Tracker(client, str(experiment.experiment_id), seconds=time.monotonic() - start)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time make the tables of a new database in ``folder``, where the system can see to it."""
    descriptor = None
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _find_or_create_experiment(client: MlflowClient, artifacts: str | None) -> Experiment:
    number, name = os.environ.get(ID_VARIABLE), os.environ.get(NAME_VARIABLE)
    if number:
        experiment = _experiment_of_number(client, number)
        if name and experiment.name != name:
            raise TrackingError(
                f"{ID_VARIABLE}={number} is the experiment {experiment.name}, but {NAME_VARIABLE} is {name}; unset one"
            )
    else:
        experiment = _experiment_of_name(client, name or EXPERIMENT, artifacts)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment


def _experiment_of_number(client: MlflowClient, number: str) -> Experiment:
    try:
        return client.get_experiment(number)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise TrackingError(
            f"{ID_VARIABLE}={number}: there is no such experiment; unset it, or set {NAME_VARIABLE}"
        ) from None


def _experiment_of_name(client: MlflowClient, name: str, artifacts: str | None) -> Experiment:
    if found := client.get_experiment_by_name(name):
        return found
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=artifacts))
    except MlflowException:
        # Another pipeline run may have been first.
        if found := client.get_experiment_by_name(name):
            return found
        raise


@contextmanager
def stage_run(stage: str, params: Mapping[str, object]) -> Iterator[StageRun]:
    """Open the run of ``stage`` below the run of this pipeline run, which the first stage creates.

    Args:
        stage: the stage's name.
        params: all params, flat; they stand on the pipeline's run and on the stage's.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
    """
    tracker = open_tracker(project_root())
    status = "FAILED"
    try:
        common = _git_and_dvc_tags()
        pipeline_id = _find_or_start_pipeline_run(tracker, params, common)
        own = {"spacewarps.stage": stage, "mlflow.source.name": f"spacewarps {stage}"}
        run_id = tracker.start_run(stage, pipeline_id, {**common, **own})
        tracker.log(run_id, params=params)
        yield StageRun(tracker, pipeline_id, run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end_open_runs(status)


def _find_or_start_pipeline_run(tracker: Tracker, params: Mapping[str, object], tags: Mapping[str, str]) -> str | None:
    key = _pipeline_key()
    found = tracker.attempt(
        lambda: tracker.client.search_runs([tracker.experiment_id], f"tags.`{PIPELINE_TAG}` = '{key}'", max_results=1)
    )
    if found:
        run_id = str(found[0].info.run_id)
        tracker.reopen_run(run_id)
        return run_id
    experiment = os.environ.get("DVC_EXP_NAME")
    commit = tags.get("mlflow.source.git.commit", "")[:7]
    name = experiment or (f"pipeline {commit}" if commit else "pipeline")
    new_id = tracker.start_run(name, None, {**tags, PIPELINE_TAG: key, "mlflow.source.name": "dvc.yaml"})
    tracker.log(new_id, params=params)
    return new_id


def _pipeline_key() -> str:
    """Return what the stages of one pipeline run have in common, and no other run: the process that runs them."""
    process = psutil.Process()
    # Typed by hand, a stage is a pipeline run of its own.
    runner = _first_that_is_no_shell(process) if "DVC_STAGE" in os.environ else process
    key = f"{os.uname().nodename}-{runner.pid}-{runner.create_time():.2f}-{os.environ.get('DVC_EXP_NAME', '')}"
    # The key stands in quotes when it is searched for.
    return re.sub(r"[^\w.-]", "_", key)


def _first_that_is_no_shell(process: psutil.Process) -> psutil.Process:
    """Return the first ancestor of ``process`` that is no shell, or the process itself if that cannot be seen.

    DVC runs each stage in a shell of its own, so it is DVC itself; its start time tells it from an earlier process of
    the same number.
    """
    try:
        for ancestor in process.parents():
            if ancestor.name() not in _SHELLS:
                ancestor.create_time()
                return ancestor
    except psutil.Error:
        # It has ended, or the system hides other processes.
        return process
    return process


def _git_and_dvc_tags() -> dict[str, str]:
    tags = {}
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False)
    except OSError:
        # There is no git, or it cannot be run.
        commit = None
    else:
        commit = re.match(rb"[0-9a-f]{40,64}$", done.stdout.strip())
    if commit:
        tags["mlflow.source.git.commit"] = commit[0].decode()
    for variable, tag in (("DVC_EXP_NAME", "dvc.experiment"), ("DVC_EXP_BASELINE_REV", "dvc.baseline")):
        if os.environ.get(variable):
            tags[tag] = os.environ[variable]
    return tags


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested sections as one level, with dots in the names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
