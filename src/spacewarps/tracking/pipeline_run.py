"""Which MLflow run a stage belongs to: one top-level run for each run of the pipeline, one below it for each stage."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

# MLflow reports its use to its makers unless this is set before it is imported; a survey's business stays at home.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# What MLflow says of its own doings would drown what the stage says.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A server that is not there is said after seconds; MLflow's own patience is five minutes, at every stage.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spacewarps.errors import SpaceWarpsError
from spacewarps.progress import say

EXPERIMENT = "space-warps"
PIPELINE_TAG = "spacewarps.pipeline"
PARENT_TAG = "mlflow.parentRunId"
# Within MLflow's own limits on one batch (1,000 entries in all).
_METRICS_A_BATCH, _PARAMS_A_BATCH, _PARAM_LENGTH = 800, 100, 6000
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh"})


class TrackingError(SpaceWarpsError):
    """MLflow cannot be reached."""


@dataclass
class Tracker:
    """Writes runs to MLflow, and knows how long that took.

    A failure to write while work is going on costs the log, never the work: it is said once, and logging ends.
    """

    client: MlflowClient
    experiment_id: str
    seconds: float = 0.0
    _silenced: bool = field(default=False, repr=False)
    _open: list[str] = field(default_factory=list, repr=False)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of the block as logging, and survive a failure of MLflow in it."""
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            # Stores of runs and of artifacts fail with errors of many kinds: MLflow's, the system's, the server's.
            if not self._silenced:
                say(f"MLflow stopped taking notes ({' '.join(str(error).split())[:200]}); the work goes on")
            self._silenced = True
        finally:
            self.seconds += time.perf_counter() - start

    def start_run(self, name: str, parent: str | None, tags: Mapping[str, str]) -> str | None:
        """Start a run below ``parent`` and return its id; nothing once MLflow has failed."""
        run_id: str | None = None
        with self.timed():
            if not self._silenced:
                below = {} if parent is None else {PARENT_TAG: parent}
                run = self.client.create_run(self.experiment_id, tags={**tags, **below}, run_name=name)
                run_id = str(run.info.run_id)
                self._open.append(run_id)
        return run_id

    def log(
        self,
        run_id: str | None,
        *,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, list[float]] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write all that is given to a run in as few requests as MLflow allows; a curve's steps count from 1."""
        now = int(time.time() * 1000)
        points = [Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()]
        for name, values in (curves or {}).items():
            points += [Metric(name, float(value), now, step) for step, value in enumerate(values, start=1)]
        settings = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in (params or {}).items()]
        labels = [RunTag(name, value) for name, value in (tags or {}).items()]
        with self.timed():
            if run_id is None or self._silenced:
                return
            while points or settings or labels:
                self.client.log_batch(run_id, points[:_METRICS_A_BATCH], settings[:_PARAMS_A_BATCH], labels[:100])
                points, settings, labels = points[_METRICS_A_BATCH:], settings[_PARAMS_A_BATCH:], labels[100:]

    def end_run(self, run_id: str | None, status: str = "FINISHED") -> None:
        """End a run."""
        with self.timed():
            if run_id is not None and not self._silenced:
                self.client.set_terminated(run_id, status)
                if run_id in self._open:
                    self._open.remove(run_id)

    def end_open_runs(self, status: str) -> None:
        """End every run that this process started and has not ended, the newest first."""
        for run_id in reversed(self._open.copy()):
            self.end_run(run_id, status)


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
        with self.tracker.timed():
            if self.run_id is not None:
                store = self.tracker.client.log_artifacts if path.is_dir() else self.tracker.client.log_artifact
                store(self.run_id, str(path))


def open_tracker(root: Path) -> Tracker:
    """Connect to MLflow: to ``MLFLOW_TRACKING_URI`` if it is set, else to the database at the project's root.

    Raises:
        TrackingError: it does not answer.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(root)
    start = time.perf_counter()
    try:
        client = MlflowClient(uri)
        own = uri == default_tracking_uri(root)
        experiment_id = _find_or_create_experiment(client, (root / "mlartifacts").as_uri() if own else None)
    except Exception as error:
        # Each kind of store fails with errors of its own.
        reason = " ".join(str(error).split())[:200]
        if uri == default_tracking_uri(root):
            advice = f"move {root / 'mlflow.db'} away, and a new one is made, or set MLFLOW_TRACKING_URI"
        else:
            advice = "check MLFLOW_TRACKING_URI"
        raise TrackingError(f"MLflow at {uri} cannot be used ({reason}); {advice}") from None
    return Tracker(client, experiment_id, seconds=time.perf_counter() - start)


def _find_or_create_experiment(client: MlflowClient, artifacts: str | None) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))
        except MlflowException:
            # Another pipeline run may have been first.
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def default_tracking_uri(root: Path) -> str:
    """Return the address of the project's own database."""
    return f"sqlite:///{root / 'mlflow.db'}"


def project_root() -> Path:
    """Return the project's folder, also from one of DVC's temporary copies of it (DVC names it)."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


@contextmanager
def stage_run(stage: str, params: Mapping[str, object]) -> Iterator[StageRun]:
    """Open the run of ``stage`` below the run of this pipeline run, which the first stage creates.

    Args:
        stage: the stage's name.
        params: all params, flat; they stand on the pipeline's run and on the stage's.

    Raises:
        TrackingError: MLflow does not answer.
    """
    tracker = open_tracker(project_root())
    common = _git_and_dvc_tags()
    pipeline_id = _find_or_start_pipeline_run(tracker, params, common)
    own = {"spacewarps.stage": stage, "mlflow.source.name": f"spacewarps {stage}"}
    run_id = tracker.start_run(stage, pipeline_id, {**common, **own})
    tracker.log(run_id, params=params)
    status = "FAILED"
    try:
        yield StageRun(tracker, pipeline_id, run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end_open_runs(status)
        tracker.end_run(pipeline_id, status)


def _find_or_start_pipeline_run(tracker: Tracker, params: Mapping[str, object], tags: Mapping[str, str]) -> str | None:
    key = _pipeline_key()
    with tracker.timed():
        found = tracker.client.search_runs([tracker.experiment_id], f"tags.`{PIPELINE_TAG}` = '{key}'", max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            tracker.client.update_run(run_id, status="RUNNING")
            return run_id
    experiment = os.environ.get("DVC_EXP_NAME")
    commit = tags.get("mlflow.source.git.commit", "")[:7]
    name = experiment or (f"pipeline {commit}" if commit else "pipeline")
    run_id_or_none = tracker.start_run(name, None, {**tags, PIPELINE_TAG: key, "mlflow.source.name": "dvc.yaml"})
    tracker.log(run_id_or_none, params=params)
    return run_id_or_none


def _pipeline_key() -> str:
    """Return what the stages of one pipeline run have in common, and no other run: the process that runs them.

    DVC runs each stage in a shell of its own; the first ancestor that is no shell is DVC itself, and its start time
    tells it from an earlier process of the same number.
    """
    process = psutil.Process()
    for ancestor in process.parents():
        if ancestor.name() not in _SHELLS:
            break
    else:
        ancestor = process
    if "DVC_STAGE" not in os.environ:
        # Typed by hand: a pipeline run of its own.
        ancestor = process
    return f"{os.uname().nodename}-{ancestor.pid}-{ancestor.create_time():.2f}-{os.environ.get('DVC_EXP_NAME', '')}"


def _git_and_dvc_tags() -> dict[str, str]:
    tags = {}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode == 0:
        tags["mlflow.source.git.commit"] = commit.stdout.strip()
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
