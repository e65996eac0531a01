"""A run of the pipeline as MLflow has it: all that a working tree needs to repeat it."""

import contextlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spacewarps.tracking.database import check_database
from spacewarps.tracking.failures import TrackingError, reason, without_password
from spacewarps.tracking.notes import COMPUTED_TAG, OUTPUTS_TAG, PARENT_TAG, PIPELINE_TAG, STAGE_TAG
from spacewarps.tracking.pipeline_file import PARAMS_FILE, PIPELINES
from spacewarps.tracking.revision import CHANGED_TAG, COMMIT_TAG, EXPERIMENT_TAG
from spacewarps.tracking.store import URI_VARIABLE, find_store

_PIPELINE, *_OTHERS = PIPELINES
#: The pipelines of one stage each, by that stage.
_OF_STAGE = dict(zip(("crossvalidate", "predict", "fetch"), _OTHERS, strict=True))


@dataclass(frozen=True)
class RecordedRun:
    """A run of the pipeline.

    Args:
        run_id: of the run of the whole pipeline.
        name: what MLflow shows.
        commit: which git had checked out.
        experiment: DVC's, if it was one.
        params_file: ``params.yaml`` as it was.
        changed: files, params and outputs aside, that were not as in the commit.
        pipeline: the file that lists its stages.
        outputs: what the finished stages wrote, or all if none had to run, the last stage last, with the hashes that
            ``dvc.lock`` has of it.
    """

    run_id: str
    name: str
    commit: str
    experiment: str | None
    params_file: bytes
    changed: list[str]
    pipeline: Path
    outputs: dict[str, str]


def find_recorded_run(run_id: str, root: Path) -> RecordedRun:
    """Return the run of the pipeline that ``run_id`` is or stands below: that of a stage, a step, a candidate.

    Args:
        run_id: as MLflow shows it.
        root: the project's folder.

    Raises:
        TrackingError: there is no such run, it is none of this pipeline's, or not all of it was recorded.
    """
    store = find_store(root)
    if store.database is not None and not store.database.exists():
        raise TrackingError(f"{store.database}: no runs are there; set {URI_VARIABLE} to the store that has them")
    try:
        with contextlib.chdir(root):
            check_database(store)
            client = MlflowClient(store.uri)
            return _recorded(client, run_id)
    except TrackingError:
        raise
    except Exception as error:
        # Each kind of store fails with errors of its own.
        raise TrackingError(
            f"run {run_id!r:.80} cannot be had from MLflow at {without_password(store.uri)} ({reason(error)}); name a "
            f"run as MLflow shows it, and check {URI_VARIABLE}"
        ) from None


def _recorded(client: MlflowClient, run_id: str) -> RecordedRun:
    run = client.get_run(run_id)
    while PIPELINE_TAG not in run.data.tags:
        if not (parent := run.data.tags.get(PARENT_TAG)):
            raise TrackingError(f"run {run_id}: no run of a pipeline of Space Warps, nor of a part of one")
        run = client.get_run(parent)
    tags = run.data.tags
    if COMMIT_TAG not in tags:
        raise TrackingError(f"run {run_id}: it ran outside of git, so no commit is known for it")
    stages = _stages_of(client, run)
    if any(CHANGED_TAG not in each.data.tags for each in (run, *stages)):
        raise TrackingError(
            f"run {run_id}: it does not say whether its files were those of commit {tags[COMMIT_TAG][:7]}, as runs of "
            "earlier versions; run the pipeline again"
        )
    changed = dict.fromkeys(name for each in (run, *stages) for name in json.loads(each.data.tags[CHANGED_TAG]))
    for stage in stages:
        if stage.data.params != run.data.params:
            raise TrackingError(
                f"run {run_id}: params were changed between its stages, so no one params.yaml gives its results"
            )
        if stage.data.tags.get(COMMIT_TAG) != tags[COMMIT_TAG]:
            raise TrackingError(
                f"run {run_id}: there was a commit between its stages, so no one commit has the code of its results"
            )
    # Where none ran, all results were there already, and are those of this run as well.
    told = [json.loads(each.data.tags.get(OUTPUTS_TAG, "{}")) for each in stages or _below(client, run)]
    outputs = {path: digest for each in told for path, digest in each.items()}
    return RecordedRun(
        run.info.run_id,
        run.info.run_name,
        tags[COMMIT_TAG],
        tags.get(EXPERIMENT_TAG),
        _params_file(client, run),
        list(changed),
        next((_OF_STAGE[name] for stage in stages if (name := stage.data.tags[STAGE_TAG]) in _OF_STAGE), _PIPELINE),
        outputs,
    )


def _stages_of(client: MlflowClient, run: Run) -> list[Run]:
    # What was not run wrote nothing with the params and the code of this run.
    return [each for each in _below(client, run) if COMPUTED_TAG not in each.data.tags]


def _below(client: MlflowClient, run: Run) -> list[Run]:
    below = f"tags.`{PARENT_TAG}` = '{run.info.run_id}'"
    found = client.search_runs([run.info.experiment_id], below, order_by=["attributes.start_time ASC"])
    return [each for each in found if STAGE_TAG in each.data.tags]


def _params_file(client: MlflowClient, run: Run) -> bytes:
    if not any(file.path == PARAMS_FILE for file in client.list_artifacts(run.info.run_id)):
        raise TrackingError(f"run {run.info.run_id}: its {PARAMS_FILE} is not among its artifacts; run it again")
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run.info.run_id, PARAMS_FILE, folder)).read_bytes()
