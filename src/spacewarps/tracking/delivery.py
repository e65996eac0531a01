"""From the notes of a spool to MLflow, in order, so that a note that is delivered again doubles nothing.

Metrics, params, tags, data sets and ends may be written twice: MLflow keeps one. A run or a model that a lost answer
has left unknown is found again by what no other has.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model as SavedModel
from mlflow.tracking import MlflowClient
from ruamel.yaml import YAML

from spacewarps.tracking.failures import TrackingError, UnansweredError, barred, cause, reason
from spacewarps.tracking.notes import (
    COMPUTED_TAG,
    OWN_ID,
    OWNER_TAG,
    PARENT_TAG,
    RUN_TAG,
    STAGE_TAG,
    Artifact,
    Data,
    End,
    Entries,
    Model,
    Note,
    Reused,
    Start,
)
from spacewarps.tracking.origins import find_origin, tags_of_origin
from spacewarps.tracking.queries import find_runs
from spacewarps.tracking.spool import Spool

_NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", _NOT_THERE})
_PROBE_TAG = "spacewarps.probe"
_PARAMS_A_BATCH = 100
_ATTEMPTS = 4
_MODEL = "model"
_WITHOUT_RESULT = frozenset({"FAILED", "KILLED"})


class UnstoredError(UnansweredError):
    """The store answers, but cannot keep something for now, as where a disk is full."""


class Delivery:
    """Brings notes into one experiment of a store.

    Args:
        client: asks the store.
        experiment_id: the experiment's id there.
        tell: hears why a note was left out.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, tell: Callable[[Exception], None]) -> None:
        self._client, self._experiment_id, self._tell = client, experiment_id, tell

    def attempt(self, ask: Callable[[], object]) -> None:
        """Ask the store for something that is told, and left out, if it fails.

        Raises:
            UnansweredError: the store does not answer.
        """
        try:
            ask()
        except Exception as error:
            self._check_that_it_answers(error)
            self._tell(error)

    def check_that_it_is_the_same(self, spool: Spool) -> None:
        """Begin the delivery of ``spool`` anew if the store does not know a run that it has given.

        Raises:
            UnansweredError: the store does not answer.
        """
        if spool.runs:
            self._begins_anew(spool, next(iter(spool.runs.values())))

    def _begins_anew(self, spool: Spool, run_id: str) -> bool:
        """Start the delivery of ``spool`` over, once, if the store is not the one that has given a run.

        It was deleted or replaced: what a user deletes in MLflow is still found there.
        """
        if spool.began_anew:
            return False
        try:
            self._client.get_run(run_id)
        except Exception as error:
            if _is_not_there(error):
                spool.begin_anew()
                return True
            self._check_that_it_answers(error)
        return False

    def deliver_first(self, spool: Spool) -> bool:
        """Deliver the first of the notes of ``spool``, and say whether it arrived.

        What the store will not have is left out and told. All notes are undelivered again if the store turns out to be
        another one than that which has the first of them.

        What fails again and again waits, with all that comes after it, unless the store writes other things meanwhile.
        Of files that cannot be known: a file or a model waits in any case.

        Raises:
            UnansweredError: the store does not answer.
            UnstoredError: it does, but writes nothing, or cannot store a run, a file or a model.
            TrackingError: it does not let this user write, who may be allowed to later.
        """
        note = spool.undelivered[0]
        attempt = 0
        while True:
            attempt += 1
            try:
                spool.delivered(self._send(note, spool))
                return True
            except Exception as error:
                # Stores of runs and of artifacts fail with errors of many kinds: MLflow's, the system's, the server's.
                spool.uncertain = spool.suspect = True
                if why := barred(error):
                    raise TrackingError(why) from None
                if is_refused(error):
                    run_id = spool.runs.get((note.parent if isinstance(note, Start | Reused) else note.run) or "")
                    if run_id is not None and _is_not_there(error) and self._begins_anew(spool, run_id):
                        return False
                else:
                    self._check_that_it_answers(error)
                    if attempt < _ATTEMPTS:
                        time.sleep(attempt)
                        continue
                    if isinstance(note, Start | Artifact | Model) or not self._writes(note, spool):
                        raise UnstoredError(_told(note, spool, error)) from None
                self._tell(error)
                spool.delivered(None)
                return False

    def _check_that_it_answers(self, failure: Exception) -> None:
        # A server that has failed may close the connection; the next request has a new one.
        for last in (False, True):
            try:
                self._client.get_experiment(self._experiment_id)
                return
            except Exception:
                if last:
                    raise UnansweredError(cause(failure)) from None

    def _writes(self, note: Note, spool: Spool) -> bool:
        """Say whether the store writes something else on the run of ``note``, and takes it away again."""
        run_id = spool.runs[note.parent if isinstance(note, Reused) else note.run]
        try:
            # Of what stands there already, a database would write nothing.
            self._client.set_tag(run_id, _PROBE_TAG, "written")
            self._client.delete_tag(run_id, _PROBE_TAG)
        except Exception:
            return False
        return True

    def remove_twins(self, spool: Spool) -> None:
        """Remove runs without content that a server made late, for requests that nobody waited for any more.

        Raises:
            UnansweredError: the store does not answer.
        """
        if not spool.suspect:
            return
        known = set(spool.runs.values())
        try:
            for run in self.search(f"tags.`{RUN_TAG}` LIKE '{spool.folder.name}.%'"):
                if run.info.run_id not in known and run.data.tags[RUN_TAG] in spool.runs:
                    self._client.delete_run(run.info.run_id)
        except Exception as error:
            raise UnansweredError(cause(error)) from None

    def search(self, what: str) -> Iterator[Run]:
        """Yield the runs that MLflow finds by a filter, the latest first.

        Raises:
            Exception: whatever MLflow raises where it fails.
        """
        return find_runs(self._client, self._experiment_id, what)

    def _send(self, note: Note, spool: Spool) -> str | None:
        if isinstance(note, Start):
            return self._start(note, spool)
        if isinstance(note, Reused):
            return self._stand_for_stage(note, spool)
        run_id = spool.runs.get(note.run)
        if run_id is None:
            # MLflow would not have the run, which was told.
            return None
        if isinstance(note, Artifact | Model) and not spool.kept(note.path).exists():
            self._tell(FileNotFoundError(f"{spool.kept(note.path)} was deleted before MLflow had it"))
            return None
        match note:
            case Entries():
                entries = [
                    *(Metric(*metric) for metric in note.metrics),
                    *(Param(*param) for param in note.params),
                    *(RunTag(key, value.replace(OWN_ID, run_id)) for key, value in note.tags),
                ]
                self._write(run_id, entries)
            case Data():
                tags = [InputTag("mlflow.data.context", note.context)]
                self._client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**note.dataset), tags)])
            case Artifact():
                path = spool.kept(note.path)
                store = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                store(run_id, str(path))
            case Model():
                self._store_model(run_id, spool.kept(note.path), note.tags)
            case End():
                is_shared = note.run in spool.shared and note.status == "FINISHED"
                status = self._status_of_stages(run_id) if is_shared else note.status
                self._client.set_terminated(run_id, status, end_time=note.time)
        return None

    def _start(self, note: Start, spool: Spool) -> str:
        found: list[Run] = []
        parent = spool.runs.get(note.parent or "")
        if spool.uncertain or note.found_by != RUN_TAG:
            found = list(self.search(f"tags.`{note.found_by}` = '{note.tags[note.found_by]}'"))
        if found:
            run = found[-1]
            run_id, stands = str(run.info.run_id), run.data.params
            # The owner first: whoever finds it RUNNING beside one that has ended would end it.
            self._client.set_tag(run_id, OWNER_TAG, note.tags[OWNER_TAG])
            self._client.update_run(run_id, status="RUNNING")
            if parent is not None and run.data.tags.get(PARENT_TAG) != parent:
                # It was begun below a run of the store that was there before.
                self._client.set_tag(run_id, PARENT_TAG, parent)
        else:
            below = {} if parent is None else {PARENT_TAG: parent}
            if parent is not None and (stage := note.tags.get(STAGE_TAG)):
                for run in self._of_stage(stage, parent):
                    # It was taken for one that DVC leaves alone.
                    if COMPUTED_TAG in run.data.tags:
                        self._client.delete_run(run.info.run_id)
            run = self._client.create_run(
                self._experiment_id, start_time=note.time, tags={**note.tags, **below}, run_name=note.name
            )
            run_id, stands = str(run.info.run_id), {}
        self._write_missing(run_id, note.params, stands)
        return run_id

    def _status_of_stages(self, pipeline_id: str) -> str:
        """Return how the stages of a pipeline's run have ended: as one that failed or was killed, if there is one.

        DVC goes on with others where it is told to; of a stage that ran again, the last run counts.
        """
        latest: dict[str | None, str] = {}
        for run in self.search(f"tags.`{PARENT_TAG}` = '{pipeline_id}'"):
            latest.setdefault(run.data.tags.get(STAGE_TAG), run.info.status)
        return next((status for status in latest.values() if status in _WITHOUT_RESULT), "FINISHED")

    def _of_stage(self, stage: str, pipeline_id: str) -> list[Run]:
        return list(self.search(f"tags.`{PARENT_TAG}` = '{pipeline_id}' AND tags.`{STAGE_TAG}` = '{stage}'"))

    def _stand_for_stage(self, note: Reused, spool: Spool) -> str | None:
        """Let a run stand for a stage that was not run, and lead to the one that computed its results."""
        pipeline_id = spool.runs.get(note.parent)
        if pipeline_id is None:
            return None
        there = self._of_stage(note.stage, pipeline_id)
        run = next((run for run in there if run.data.tags.get(RUN_TAG) == note.run), None)
        if there and run is None:
            return None
        if run is None:
            origin = find_origin(self.search, note.stage, note.outputs, note.time)
            tags = {**note.tags, PARENT_TAG: pipeline_id, **tags_of_origin(origin)}
            name = f"{note.stage}, not run"
            run = self._client.create_run(self._experiment_id, start_time=note.time, tags=tags, run_name=name)
        self._client.set_terminated(run.info.run_id, end_time=note.time)
        return str(run.info.run_id)

    def _write_missing(self, run_id: str, params: Mapping[str, str], stands: Mapping[str, str]) -> None:
        missing = [Param(*param) for param in params.items() if param[0] not in stands]
        for first in range(0, len(missing), _PARAMS_A_BATCH):
            self._write(run_id, missing[first : first + _PARAMS_A_BATCH])

    def _write(self, run_id: str, entries: list[Any]) -> None:
        """Write entries in one request; if that is refused, halve it until only what is refused is left out."""
        try:
            self._client.log_batch(
                run_id,
                [entry for entry in entries if isinstance(entry, Metric)],
                [entry for entry in entries if isinstance(entry, Param)],
                [entry for entry in entries if isinstance(entry, RunTag)],
            )
        except MlflowException as error:
            # Where the run is not there, none of them is what is refused.
            if not is_refused(error) or _is_not_there(error):
                raise
            if len(entries) == 1:
                self._tell(error)
                return
            half = len(entries) // 2
            self._write(run_id, entries[:half])
            self._write(run_id, entries[half:])

    def _store_model(self, run_id: str, folder: Path, tags: dict[str, str]) -> None:
        """Store a saved model as one that the run has logged, as MLflow itself does where it saves and logs at once.

        The run may have it already, whole or in part.
        """
        run = self._client.get_run(run_id)
        of_run = f"source_run_id = '{run_id}'"
        model = next(iter(self._client.search_logged_models([self._experiment_id], of_run)), None)
        if model is None:
            model = self._client.create_logged_model(
                self._experiment_id, _MODEL, source_run_id=run_id, params=run.data.params, tags=tags
            )
        outputs = run.outputs.model_outputs if run.outputs else []
        if model.model_id not in {output.model_id for output in outputs}:
            self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        # What a model is worth, MLflow shows beside it.
        metrics = [
            Metric(point.key, point.value, point.timestamp, 0, model_id=model.model_id, run_id=run_id)
            for name in run.data.metrics
            for point in self._client.get_metric_history(run_id, name)
            if point.step == 0
        ]
        self._client.log_batch(run_id, metrics)
        # MLflow itself would take a path for an address, and some signs in it for others.
        description = SavedModel.from_dict(YAML(typ="safe").load(folder / "MLmodel"))
        description.artifact_path, description.model_uuid = model.artifact_location, model.model_id
        description.run_id, description.model_id = run_id, model.model_id
        # A delivery that is killed here is done again, and must find it whole.
        description.save(str(folder / "MLmodel.new"))
        (folder / "MLmodel.new").replace(folder / "MLmodel")
        self._client.log_model_artifacts(model.model_id, str(folder))
        self._client.finalize_logged_model(model.model_id, "READY")


def _told(note: Note, spool: Spool, error: Exception) -> str:
    """Return what cannot be stored, why, and how to do without it: it may be that it never can be."""
    place = spool.kept(note.path) if isinstance(note, Artifact | Model) else spool.folder
    match note:
        case Start():
            what = f"the run {note.name!r:.80}"
        case Artifact():
            what = f"{place.name}, an artifact of a run,"
        case Model():
            what = "the model of a run"
        case _:
            what = "what a run is to hold"
    return f"{what} could not be stored ({reason(error)}); put that right, or delete {place} to do without it"


def _is_not_there(error: Exception) -> bool:
    return isinstance(error, MlflowException) and error.error_code == _NOT_THERE


def is_refused(error: Exception) -> bool:
    """Say whether MLflow will not have a name or a value, as opposed to a store that fails."""
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS
