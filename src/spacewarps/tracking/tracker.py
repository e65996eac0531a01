"""What a stage tells MLflow: noted at once, and delivered beside the work, which no failure of MLflow harms."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

import psutil

from spacewarps.processes import name_of
from spacewarps.progress import say
from spacewarps.tracking.delivery import UnstoredError
from spacewarps.tracking.experiment import check_kind, destination, open_experiment
from spacewarps.tracking.failures import UnansweredError, reason
from spacewarps.tracking.names import acceptable_name
from spacewarps.tracking.notes import (
    OUTPUTS_TAG,
    OWNER_TAG,
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
from spacewarps.tracking.sender import Sender
from spacewarps.tracking.spool import Destination, Spool
from spacewarps.tracking.store import find_store
from spacewarps.tracking.waiting import SPOOL

# Within MLflow's own limits on one batch (1,000 entries in all) and on one value.
_METRICS_A_BATCH, _PARAMS_A_BATCH, _TAGS_A_BATCH = 800, 100, 100
_PARAM_LENGTH, _TAG_LENGTH, _RUN_NAME_LENGTH = 6000, 5000, 250


class Tracker:
    """Notes what MLflow is to know, and knows how long that took.

    Args:
        root: the project's folder.

    Attributes:
        seconds: how long the work has waited for it.
        spool: where the notes are until MLflow has them.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
        OSError: notes cannot even be kept in a temporary folder.
    """

    def __init__(self, root: Path) -> None:
        self.seconds = 0.0
        self._owner = name_of(psutil.Process())
        self._count = 0
        # Whether the spool is the project's, where notes can wait, and whether all of them are in it.
        self._is_lasting = self._is_whole = True
        #: The runs that have not ended, in the order of their start.
        self._open: dict[str, None] = {}
        with self._timed():
            store = find_store(root)
            named = destination(store, root)
            check_kind(store)
            opened = None
            # What another process keeps for itself is tried again beside the work, as a server is.
            with suppress(UnansweredError):
                opened = open_experiment(root, store, named) if store.is_local else None
            self.spool = self._make_spool(root / SPOOL, named)
            self._sender = Sender(root, store, self.spool, opened)
            try:
                self._sender.wait_for_first_answer()
            except BaseException:
                self.spool.discard()
                raise

    def _make_spool(self, place: Path, named: Destination) -> Spool:
        try:
            return Spool.create(place, named)
        except OSError as error:
            self._tell_that_notes_are_not_kept(error)
            self._is_lasting = False
            return Spool.create(Path(tempfile.mkdtemp(prefix="spacewarps-")), named)

    def _tell_that_notes_are_not_kept(self, error: OSError) -> None:
        if self._is_whole:
            say(f"notes for MLflow cannot be kept in {SPOOL} ({reason(error)}); those that it does not take are lost")
        self._is_whole = False

    def start_run(
        self,
        name: str,
        parent: str | None,
        tags: Mapping[str, str],
        *,
        params: Mapping[str, object] | None = None,
        found_by: str = RUN_TAG,
    ) -> str:
        """Start a run below ``parent`` and return its id in the notes.

        Args:
            name: what MLflow shows.
            parent: the id of the run above.
            tags: what stands on it.
            params: what stands on it unless it has them already.
            found_by: the tag by whose value a run of other stages is found, which then goes on.
        """
        run = self._new_id()
        settings = {acceptable_name(key): str(value)[:_PARAM_LENGTH] for key, value in (params or {}).items()}
        labels = _originals(params or {}) | {**tags, OWNER_TAG: self._owner, RUN_TAG: run}
        labels = {key: value[:_TAG_LENGTH] for key, value in labels.items()}
        self._note(Start(run, name[:_RUN_NAME_LENGTH], parent, labels, _now(), found_by, settings))
        self._open[run] = None
        return run

    def note_reused(self, stage: str, pipeline: str, outputs: Mapping[str, str]) -> None:
        """Let a run stand for a stage that was not run, unless the pipeline's run has one of it.

        Args:
            stage: its name.
            pipeline: the id of the pipeline's run.
            outputs: the hash of each of its results, by its path; they tell which run computed it.
        """
        run = self._new_id()
        tags = {
            STAGE_TAG: stage,
            OUTPUTS_TAG: json.dumps(outputs)[:_TAG_LENGTH],
            OWNER_TAG: self._owner,
            RUN_TAG: run,
        }
        self._note(Reused(run, stage, pipeline, dict(outputs), tags, _now()))

    def _new_id(self) -> str:
        self._count += 1
        return f"{self.spool.folder.name}.{self._count}"

    def log(
        self,
        run: str,
        *,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, list[float]] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log all that is given to a run in as few requests as MLflow allows; a curve's steps count from 1.

        A name that MLflow would refuse is written as :func:`acceptable_name` has it, beside a tag of that name that
        holds the original. What MLflow refuses all the same is left out, and the rest is written.
        """
        now = _now()
        metrics, curves, params = metrics or {}, curves or {}, params or {}
        labels = _originals(chain(metrics, curves, params))
        labels |= {acceptable_name(name): value for name, value in (tags or {}).items()}
        points = [(acceptable_name(name), float(value), now, 0) for name, value in metrics.items()]
        for name, values in curves.items():
            key = acceptable_name(name)
            points += [(key, float(value), now, step) for step, value in enumerate(values, start=1)]
        settings = [(acceptable_name(name), str(value)[:_PARAM_LENGTH]) for name, value in params.items()]
        notes = [(key, value[:_TAG_LENGTH]) for key, value in labels.items()]
        first, second, third = iter(points), iter(settings), iter(notes)
        while any(
            batch := (
                list(islice(first, _METRICS_A_BATCH)),
                list(islice(second, _PARAMS_A_BATCH)),
                list(islice(third, _TAGS_A_BATCH)),
            )
        ):
            self._note(Entries(run, *batch, now))

    def log_data(self, run: str, dataset: dict[str, str], context: str) -> None:
        """Log a data set that a run has used, by what MLflow keeps of it, and what for."""
        self._note(Data(run, dataset, context, _now()))

    def log_artifacts(self, run: str, path: Path) -> None:
        """Store a file, or all files of a folder, as they are now, with a run."""
        with self._work_goes_on():
            self._note(Artifact(run, self.spool.keep(path), _now()))

    def log_model(self, run: str, save: Callable[[Path], None], *, tags: Mapping[str, str]) -> None:
        """Store a model with a run.

        Args:
            run: the run's id.
            save: lets MLflow save the model in the folder that it is given.
            tags: what stands on the model.
        """
        with self._work_goes_on():
            name, path = self.spool.new_name("model")
            save(path)
            self._note(Model(run, name, dict(tags), _now()))

    def end_run(self, run: str, status: str = "FINISHED") -> None:
        """End a run."""
        del self._open[run]
        self._note(End(run, status, _now()))

    def close(self, status: str) -> None:
        """End what has not ended, the newest first, and wait a moment for the last notes to reach MLflow.

        Args:
            status: how those ended that :meth:`end_run` was not called for.
        """
        for run in reversed(list(self._open)):
            self.end_run(run, status)
        with self._timed():
            left = self._sender.finish()
        if left:
            trouble = self._sender.trouble
            is_away = isinstance(trouble, UnansweredError) and not isinstance(trouble, UnstoredError)
            why = "" if trouble is None or is_away else f" ({trouble})"
            some = "" if self._is_whole else ", but for those that could not be kept"
            kept = f"wait in {SPOOL}{some}{why}; the next stage that reaches it delivers them, or `spacewarps sync`"
            say(f"notes for MLflow ({left}) {kept if self._is_lasting else f'are lost{why}'}")
        if not self._is_lasting:
            self.spool.discard()
            shutil.rmtree(self.spool.folder.parent, ignore_errors=True)

    def _note(self, note: Note) -> None:
        with self._timed():
            try:
                self._sender.send(note)
            except OSError as error:
                self._tell_that_notes_are_not_kept(error)

    @contextmanager
    def _work_goes_on(self) -> Iterator[None]:
        with self._timed():
            try:
                yield
            except Exception as error:
                # MLflow saves models itself, and fails with errors of many kinds.
                say(f"MLflow will not have something that could not be copied ({reason(error)}); the work goes on")

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - start


def _originals(names: Iterable[str]) -> dict[str, str]:
    """Return the names that MLflow would refuse, by those that it is given in their place."""
    return {new: name for name in names if (new := acceptable_name(name)) != name}


def _now() -> int:
    return int(time.time() * 1000)
