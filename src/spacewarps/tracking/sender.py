"""Delivers the notes of a stage to MLflow beside its work, which waits neither for a slow MLflow nor for a dead one."""

import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from mlflow.tracking import MlflowClient

from spacewarps.progress import say
from spacewarps.tracking.delivery import Delivery, UnstoredError, is_refused
from spacewarps.tracking.experiment import connect, connect_alone
from spacewarps.tracking.failures import TrackingError, UnansweredError, reason
from spacewarps.tracking.notes import Note
from spacewarps.tracking.owners import end_abandoned_runs
from spacewarps.tracking.spool import Destination, Spool, UnreadableNotesError
from spacewarps.tracking.store import Store
from spacewarps.tracking.unrun_experiments import UnrunExperiments
from spacewarps.tracking.waiting import deliver_waiting

# How long a stage waits for a server's first answer, to hear at once of an experiment that is not there.
_FIRST_ANSWER_SECONDS = 2.0
# How long a stage waits at its end for the last notes: in all, and for the next to arrive. A store of this machine is
# slow where the machine is busy, but never away.
_LAST_SECONDS, _LAST_SECONDS_LOCALLY = 10.0, 60.0
_NEXT_SECONDS, _NEXT_SECONDS_LOCALLY = 5.0, 20.0
# And for a server that has not answered before.
_AWAY_SECONDS = 1.0
# Between two attempts to reach a store: at first, and at most.
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0


class Sender:
    """Sends the notes of one stage, after those that earlier stages have left, in a thread of its own.

    Args:
        root: the project's folder.
        store: where the notes go.
        spool: the notes.
        opened: what asks the store, and the experiment's id, where they are known already.

    Attributes:
        trouble: why notes do not arrive, if they do not.
    """

    def __init__(self, root: Path, store: Store, spool: Spool, opened: tuple[MlflowClient, str] | None) -> None:
        self.trouble: TrackingError | None = None
        self._root, self._store, self._spool, self._opened = root, store, spool, opened
        self._changed = threading.Condition()
        self._is_first, self._closing, self._given_up, self._done = True, False, False, False
        # When the last note arrived, or the first of those that wait was written.
        self._since = time.monotonic()
        self._told: set[str] = set()
        # A daemon, as it may hang in a request when the stage ends.
        self._thread = threading.Thread(target=self._work, name="notes for MLflow", daemon=True)
        self._thread.start()

    def wait_for_first_answer(self) -> None:
        """Wait until the store has answered, but not for long.

        Raises:
            TrackingError: the store answers that it cannot be used, or has no such experiment.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self.trouble, _FIRST_ANSWER_SECONDS)
        if self.trouble is not None and not isinstance(self.trouble, UnansweredError):
            raise self.trouble

    def send(self, note: Note) -> None:
        """Take a note over.

        Raises:
            OSError: it could not be kept on disk; it is sent all the same while this process lives.
        """
        with self._changed:
            if not self._spool.undelivered:
                self._since = time.monotonic()
            try:
                self._spool.append(note)
            finally:
                self._changed.notify_all()

    def finish(self) -> int:
        """Wait for the last notes as long as they arrive; return how many go on waiting in the spool."""
        begin = time.monotonic()
        last = _LAST_SECONDS_LOCALLY if self._store.is_local else _LAST_SECONDS
        following = _NEXT_SECONDS_LOCALLY if self._store.is_local else _NEXT_SECONDS
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while not self._done and (now := time.monotonic()) < begin + last:
                if now > (begin + _AWAY_SECONDS if self.trouble else self._since + following):
                    break
                self._changed.wait(0.1)
            self._given_up = True
            if self._done:
                self._spool.release()
        return len(self._spool.undelivered)

    def _work(self) -> None:
        try:
            self._try_until_told_to_end()
        except TrackingError as error:
            self.trouble = error
        except Exception as error:
            # Whatever it is, the notes are on disk, and the work goes on.
            self.trouble = TrackingError(reason(error))
        finally:
            with self._changed:
                self._done = True
                # Until the stage ends, nobody else may take its notes.
                if self._closing:
                    self._spool.release()
                self._changed.notify_all()

    def _try_until_told_to_end(self) -> None:
        pause = _PAUSE_SECONDS
        while True:
            is_last, start = self._closing, self._since
            try:
                self._deliver()
                return
            except UnansweredError as error:
                self._tell(error)
                with self._changed:
                    if self._since > start and self.trouble is None:
                        pause = _PAUSE_SECONDS
                    self.trouble = error
                    self._changed.notify_all()
                    if is_last or self._given_up:
                        return
                    self._changed.wait_for(lambda: self._closing, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _deliver(self) -> None:
        """Deliver everything until the stage ends.

        Raises:
            UnansweredError: the store does not answer.
            TrackingError: the store cannot be used, or has no such experiment.
        """
        if self._opened is None:
            self._opened = connect_alone(self._root, self._store, self._spool.destination)
            self._note_progress()
        client, experiment_id = self._opened
        delivery = Delivery(client, experiment_id, self._tell)
        if self._is_first:
            name = self._spool.destination.store
            # Listed first: whose notes arrive meanwhile need not be looked at.
            unrun = UnrunExperiments(self._root, self._spool.destination)
            deliver_waiting(self._root, name, self._open_delivery, self._tell, self._note_progress)
            delivery.attempt(lambda: end_abandoned_runs(client, experiment_id))
            delivery.attempt(partial(self._record, unrun, client, experiment_id, delivery))
            self._is_first = False
        while self._has_next():
            delivery.deliver_first(self._spool)
            self._note_progress()
        if not self._spool.undelivered:
            delivery.remove_twins(self._spool)
            self._spool.discard()

    def _record(self, unrun: UnrunExperiments, client: MlflowClient, experiment_id: str, delivery: Delivery) -> None:
        # Where another process does it, it is done.
        with suppress(BlockingIOError):
            unrun.record(client, experiment_id, delivery, self._note_progress, at_most=0.0)

    def _has_next(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._spool.undelivered or self._closing)
            return bool(self._spool.undelivered) and not self._given_up

    def _note_progress(self) -> None:
        with self._changed:
            self._since = time.monotonic()
            self.trouble = None
            self._changed.notify_all()

    def _open_delivery(self, destination: Destination) -> Delivery:
        return Delivery(*connect(self._store, destination), self._tell)

    def _tell(self, error: Exception) -> None:
        # A name that was refused is no reason to be silent about a server that is gone.
        address = self._store.public_name(self._root)
        if isinstance(error, UnstoredError):
            kind, what = "unstored", f"MLflow at {address}: {error}; the work goes on, and its notes wait"
        elif isinstance(error, UnansweredError):
            kind, what = "away", f"MLflow at {address} does not answer ({error}); the work goes on, and its notes wait"
        elif isinstance(error, UnreadableNotesError):
            kind, what = "unreadable", str(error)
        elif is_refused(error):
            kind, what = "refused", f"MLflow did not take a note ({reason(error)}); the work goes on"
        else:
            kind, what = "failed", f"MLflow could not store something ({reason(error)}); the work goes on"
        if kind not in self._told and not self._given_up:
            self._told.add(kind)
            say(what)
