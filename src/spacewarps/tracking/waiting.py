"""Notes that stages which have ended left in the spool, and their delivery."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from spacewarps.processes import alone_in
from spacewarps.tracking.delivery import Delivery
from spacewarps.tracking.failures import TrackingError, UnansweredError
from spacewarps.tracking.owners import say_killed
from spacewarps.tracking.spool import Destination, Spool, UnreadableNotesError, spools, taken

#: Where the notes of a project wait, in its folder.
SPOOL = Path(".spacewarps") / "spool"


def deliver_waiting(
    root: Path,
    store: str,
    open_delivery: Callable[[Destination], Delivery],
    tell: Callable[[Exception], None],
    note_progress: Callable[[], None],
    *,
    from_anywhere: bool = False,
    at_most: float | None = None,
) -> None:
    """Deliver to ``store`` the notes of processes that have ended, the oldest first.

    Args:
        root: the project's folder.
        store: the public name of the store; notes for another one go on waiting.
        open_delivery: connects to an experiment of the store.
        tell: hears why notes cannot be delivered though the store answers, and which cannot be read.
        note_progress: is called when a note has arrived.
        from_anywhere: also what processes of other machines or containers have left.
        at_most: seconds to wait for another process that delivers them.

    Raises:
        UnansweredError: the store does not answer.
        BlockingIOError: another process delivers them for longer.
    """
    place = root / SPOOL
    if not spools(place):
        return
    # Nobody begins with the notes of a stage before those of the stages before it have arrived.
    with alone_in(place, at_most):
        for folder in spools(place):
            try:
                with taken(folder, from_anywhere=from_anywhere) as spool:
                    if spool is not None and spool.destination.store == store:
                        deliver_all(spool, open_delivery(spool.destination), note_progress)
            except UnansweredError:
                raise
            except TrackingError as error:
                # It cannot be read, or the store has no such experiment.
                tell(error)


def deliver_all(spool: Spool, delivery: Delivery, note_progress: Callable[[], None]) -> None:
    """Deliver all notes of a spool, and remove it.

    Raises:
        UnansweredError: the store does not answer, or cannot keep something; the rest goes on waiting.
        TrackingError: it does not let this user write.
    """
    delivery.check_that_it_is_the_same(spool)
    while spool.undelivered:
        if delivery.deliver_first(spool):
            note_progress()
    delivery.remove_twins(spool)
    say_killed(spool.killed)
    spool.discard()


def count_waiting(root: Path) -> dict[str, int]:
    """Return how many notes of processes that have ended wait for each store, by its public name."""
    found: dict[str, int] = {}
    for folder in spools(root / SPOOL):
        with suppress(UnreadableNotesError), taken(folder, from_anywhere=True) as spool:
            if spool is not None:
                store = spool.destination.store
                found[store] = found.get(store, 0) + len(spool.undelivered)
    return found
