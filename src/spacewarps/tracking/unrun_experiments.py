"""DVC's experiments in which no stage had to run: no process of theirs told MLflow of them, so their commits do.

What their commits hold is known to be true of the project only where runs in the same store had computed all of it
before. So experiments of others, and those from before the store, get no tree.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from spacewarps.git import run_git
from spacewarps.processes import alone_in
from spacewarps.tracking.delivery import Delivery
from spacewarps.tracking.dvc_experiments import Committed, DvcExperiment, list_experiments, read_committed
from spacewarps.tracking.groups import in_groups
from spacewarps.tracking.notes import PARENT_TAG, PIPELINE_TAG, Artifact
from spacewarps.tracking.origins import find_origin, outputs_of, tags_of_results_there
from spacewarps.tracking.pipeline_file import PARAMS_FILE
from spacewarps.tracking.queries import find_runs
from spacewarps.tracking.revision import BASELINE_TAG, CHANGED_TAG, COMMIT_TAG, EXPERIMENT_TAG, named_in_a_tag
from spacewarps.tracking.run_notes import RunNotes
from spacewarps.tracking.spool import Destination, Spool
from spacewarps.tracking.waiting import SPOOL, count_waiting, deliver_all

#: The commits of experiments that were looked at, for each place where their runs may be.
_LOOKED_AT = Path(".spacewarps") / "experiments.json"
_TREE_IS_THERE = frozenset({"FINISHED", "RUNNING"})


class UnrunExperiments:
    """The experiments that nobody has looked at yet, as they are now: so before waiting notes are delivered.

    Args:
        root: the project's folder.
        destination: where their runs would be.
    """

    def __init__(self, root: Path, destination: Destination) -> None:
        self._root, self._destination = root, destination
        self._listed = list_experiments(root)

    def unseen(self) -> list[DvcExperiment]:
        """Return those that are left to look at."""
        seen = _looked_at(self._root, self._destination)
        return [experiment for experiment in self._listed if experiment.commit not in seen]

    def record(
        self,
        client: MlflowClient,
        experiment_id: str,
        delivery: Delivery,
        note_progress: Callable[[], None] = lambda: None,
        *,
        at_most: float,
    ) -> list[str]:
        """Let each have its tree of runs whose results were all there already; return the names of these.

        While notes wait, there is no telling, and nothing is done.

        Args:
            client: asks the store.
            experiment_id: the MLflow experiment's id there.
            delivery: brings notes there.
            note_progress: is called when an experiment was looked at, and when a note has arrived.
            at_most: seconds to wait for another process that does the same.

        Raises:
            UnansweredError: the store does not answer; what is noted waits.
            BlockingIOError: another process does it for longer.
            SpaceWarpsError: git fails.
            Exception: whatever MLflow raises where it fails.
        """
        if not self.unseen() or count_waiting(self._root).get(self._destination.store):
            return []
        recorded = []
        # Working trees of one repository have the same experiments, and may have the same store.
        shared = Path(self._root, run_git(self._root, "rev-parse", "--git-common-dir").stdout.rstrip("\n"))
        with alone_in(shared, at_most):
            # Most have the same baseline, and nobody else makes trees meanwhile.
            known = cache(partial(_pipelines_from, client, experiment_id))
            for experiment in self.unseen():
                spool = self._noted(client, delivery, experiment, known(experiment.baseline))
                self._remember(experiment)
                note_progress()
                if spool is not None:
                    try:
                        deliver_all(spool, delivery, note_progress)
                    finally:
                        spool.release()
                    recorded.append(experiment.name)
        return recorded

    def _noted(
        self, client: MlflowClient, delivery: Delivery, experiment: DvcExperiment, known: list[Run]
    ) -> Spool | None:
        """Note the tree of an experiment that is not among the ``known`` and whose results were all computed before."""
        committed = read_committed(experiment, self._root)
        if committed is None or any(_is_tree_of(run, client, experiment, committed) for run in known):
            return None
        origins = {}
        for name, stage in committed.stages.items():
            origin = find_origin(delivery.search, name, stage.hashes, experiment.time)
            if origin is None:
                return None
            origins[name] = origin
        computed = client.get_run(origins[committed.last].data.tags[PARENT_TAG])
        spool = Spool.create(self._root / SPOOL, self._destination)
        _note_tree(spool, experiment, committed, computed)
        return spool

    def _remember(self, experiment: DvcExperiment) -> None:
        place = self._root / _LOOKED_AT
        seen = _read(place)
        listed = {each.commit for each in self._listed}
        here = _looked_at(self._root, self._destination) & listed | {experiment.commit}
        # Where it cannot be written, it is looked at again.
        with suppress(OSError):
            place.parent.mkdir(exist_ok=True)
            new = place.with_suffix(".new")
            new.write_text(json.dumps(seen | {_key(self._destination): sorted(here)}), encoding="utf-8")
            new.replace(place)


def _key(destination: Destination) -> str:
    return json.dumps(asdict(destination))


def _read(place: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(place.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _looked_at(root: Path, destination: Destination) -> set[str]:
    return set(_read(root / _LOOKED_AT).get(_key(destination), []))


def _pipelines_from(client: MlflowClient, experiment_id: str, baseline: str) -> list[Run]:
    """Return the runs of the pipeline that are of experiments from a commit.

    What a user has deleted in MLflow is among them, as it is not to come back.
    """
    runs = find_runs(client, experiment_id, f"tags.`{BASELINE_TAG}` = '{baseline}'", ViewType.ALL)
    return [run for run in runs if PIPELINE_TAG in run.data.tags]


def _is_tree_of(run: Run, client: MlflowClient, experiment: DvcExperiment, committed: Committed) -> bool:
    """Say whether a run of the pipeline from the same commit is that of an experiment.

    It has its name, and no other results: the name may have been that of one that was removed.
    """
    if run.data.tags.get(EXPERIMENT_TAG) != experiment.name or run.info.status not in _TREE_IS_THERE:
        return False
    outputs = {path: digest for stage in committed.stages.values() for path, digest in stage.hashes.items()}
    below = find_runs(client, run.info.experiment_id, f"tags.`{PARENT_TAG}` = '{run.info.run_id}'", ViewType.ALL)
    told = {path: digest for stage in below for path, digest in (outputs_of(stage) or {}).items()}
    return all(outputs.get(path, digest) == digest for path, digest in told.items())


def _note_tree(spool: Spool, experiment: DvcExperiment, committed: Committed, computed: Run) -> None:
    """Note the runs of an experiment that came of another pipeline's run.

    Args:
        spool: empty.
        experiment: as DVC has it.
        committed: what its commit holds.
        computed: the run of the pipeline that computed the last of its results.
    """
    notes = RunNotes(spool, experiment.time)
    tags = {
        COMMIT_TAG: experiment.baseline,
        CHANGED_TAG: named_in_a_tag(committed.changed),
        EXPERIMENT_TAG: experiment.name,
        BASELINE_TAG: experiment.baseline,
        PIPELINE_TAG: f"experiment_{experiment.commit}",
        "mlflow.source.name": "dvc.yaml",
    }
    params = {name: _spelled(value, computed.data.params.get(name)) for name, value in committed.params.items()}
    run = notes.start_run(experiment.name, None, tags, params=params, found_by=PIPELINE_TAG)
    name, path = spool.new_name(PARAMS_FILE)
    path.write_bytes(committed.params_file)
    notes.note(Artifact(run, name, notes.now()))
    for stage, recorded in committed.stages.items():
        notes.note_reused(stage, run, recorded.hashes)
    notes.log(run, metrics=in_groups(committed.metrics), tags=tags_of_results_there(computed))
    for used in computed.inputs.dataset_inputs if computed.inputs else []:
        dataset = {name: value for name, value in dict(used.dataset).items() if value is not None}
        context = next((tag.value for tag in used.tags if tag.key == "mlflow.data.context"), "")
        notes.log_data(run, dataset, context)
    notes.end_run(run)


def _spelled(value: object, there: str | None) -> object:
    """Return a param as stages write it: a number that need not be whole has a point, whatever the file says."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return there if is_whole and there == str(float(value)) else value  # type: ignore[arg-type]
