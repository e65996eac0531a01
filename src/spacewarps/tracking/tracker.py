"""What a stage tells MLflow: noted at once, and delivered beside the work, which no failure of MLflow harms."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from spacewarps.progress import say
from spacewarps.tracking.delivery import UnstoredError
from spacewarps.tracking.experiment import check_kind, destination, open_experiment
from spacewarps.tracking.failures import UnansweredError, reason
from spacewarps.tracking.notes import Artifact, Model, Note
from spacewarps.tracking.run_notes import RunNotes
from spacewarps.tracking.sender import Sender
from spacewarps.tracking.spool import Destination, Spool
from spacewarps.tracking.store import find_store
from spacewarps.tracking.waiting import SPOOL


class Tracker(RunNotes):
    """Notes what MLflow is to know, and knows how long that took.

    Args:
        root: the project's folder.

    Attributes:
        seconds: how long the work has waited for it.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
        OSError: notes cannot even be kept in a temporary folder.
    """

    def __init__(self, root: Path) -> None:
        self.seconds = 0.0
        # Whether the spool is the project's, where notes can wait, and whether all of them are in it.
        self._is_lasting = self._is_whole = True
        with self._timed():
            store = find_store(root)
            named = destination(store, root)
            check_kind(store)
            opened = None
            # What another process keeps for itself is tried again beside the work, as a server is.
            with suppress(UnansweredError):
                opened = open_experiment(root, store, named) if store.is_local else None
            super().__init__(self._make_spool(root / SPOOL, named))
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

    def note(self, note: Note) -> None:
        """Take a note over; where it cannot be kept on disk, it is sent all the same while this process lives."""
        with self._timed():
            try:
                self._sender.send(note)
            except OSError as error:
                self._tell_that_notes_are_not_kept(error)

    def log_artifacts(self, run: str, path: Path) -> None:
        """Store a file, or all files of a folder, as they are now, with a run."""
        with self._work_goes_on():
            self.note(Artifact(run, self.spool.keep(path), self.now()))

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
            self.note(Model(run, name, dict(tags), self.now()))

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
