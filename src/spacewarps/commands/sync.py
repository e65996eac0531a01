"""The command ``sync``: what MLflow has not heard of yet is delivered, DVC's experiments without a stage included."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from mlflow.tracking import MlflowClient

from spacewarps.progress import say
from spacewarps.tracking.delivery import Delivery, UnstoredError
from spacewarps.tracking.experiment import destination, open_experiment
from spacewarps.tracking.failures import TrackingError, UnansweredError, reason
from spacewarps.tracking.owners import end_abandoned_runs
from spacewarps.tracking.root import project_root
from spacewarps.tracking.spool import Destination, UnreadableNotesError
from spacewarps.tracking.store import URI_VARIABLE, Store, find_store
from spacewarps.tracking.unrun_experiments import UnrunExperiments
from spacewarps.tracking.waiting import SPOOL, count_waiting, deliver_waiting

# It is typed by somebody who looks at the terminal.
_PATIENCE_SECONDS = 60.0


def run() -> None:
    """Deliver the notes that stages which have ended left in the spool, and say how many there were.

    DVC's experiments in which no stage had to run get their trees of runs.

    Raises:
        TrackingError: the store does not answer or cannot be used, or notes cannot be read; what was not delivered
            goes on waiting.
    """
    root = project_root()
    store = find_store(root)
    name = store.public_name(root)
    # Listed first: whose notes arrive meanwhile need not be looked at.
    named = destination(store, root)
    unrun = UnrunExperiments(root, named)
    count = 0
    failures: list[Exception] = []
    unreadable: list[UnreadableNotesError] = []
    opened: dict[str, tuple[MlflowClient, Delivery]] = {}

    def open_delivery(named: Destination) -> Delivery:
        client, experiment_id = open_experiment(root, store, named)
        opened[experiment_id] = client, Delivery(client, experiment_id, tell)
        return opened[experiment_id][1]

    def tell(error: Exception) -> None:
        if isinstance(error, UnreadableNotesError):
            unreadable.append(error)
            return
        failures.append(error)
        if not isinstance(error, TrackingError):
            say(f"MLflow did not take a note ({reason(error)})")

    def note_progress() -> None:
        nonlocal count
        count += 1

    try:
        deliver_waiting(root, name, open_delivery, tell, note_progress, from_anywhere=True, at_most=_PATIENCE_SECONDS)
    except UnansweredError as error:
        failures.append(error)
    except BlockingIOError:
        failures.append(TrackingError("another process delivers them, or was stopped as it did"))
    waiting = count_waiting(root)
    left = waiting.pop(name, 0)
    if left:
        last = failures[-1] if failures else "another process delivers them"
        is_away = isinstance(last, UnansweredError) and not isinstance(last, UnstoredError)
        why = f"no answer ({last})" if is_away else last
        raise TrackingError(f"MLflow at {name}: {why}; {count} delivered, {left} go on waiting in {SPOOL}")
    # What ended well while MLflow was away has its end there only now.
    for experiment_id, (client, delivery) in opened.items():
        # If it is away again, the next stage does it.
        with suppress(UnansweredError):
            delivery.attempt(partial(end_abandoned_runs, client, experiment_id))
    recorded = _record(root, store, unrun, named, tell) if unrun.unseen() else []
    say(f"{count} note{'s' * (count != 1)} delivered to {name}" if count else f"no notes wait for {name}")
    if recorded:
        has = "has its tree of runs" if len(recorded) == 1 else "have their trees of runs"
        say(f"{', '.join(recorded)}: no stage had to run, and {has} now")
    for other, number in waiting.items():
        say(f"notes for {other} go on waiting ({number}); name it in {URI_VARIABLE} to deliver them")
    if unreadable:
        raise unreadable[0]


def _record(
    root: Path, store: Store, unrun: UnrunExperiments, named: Destination, tell: Callable[[Exception], None]
) -> list[str]:
    try:
        client, experiment_id = open_experiment(root, store, named)
        delivery = Delivery(client, experiment_id, tell)
        return unrun.record(client, experiment_id, delivery, at_most=_PATIENCE_SECONDS)
    except UnansweredError as error:
        raise TrackingError(f"MLflow at {named.store}: no answer ({error}); DVC's experiments go on waiting") from None
    except BlockingIOError:
        raise TrackingError("another process looks at DVC's experiments, or was stopped as it did") from None
