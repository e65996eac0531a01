"""Notes that stages which have ended left in the spool, and their delivery."""

from collections.abc import Callable
from pathlib import Path

from spacewarps.processes import alone_in
from spacewarps.tracking.delivery import Delivery
from spacewarps.tracking.failures import TrackingError, UnansweredError
from spacewarps.tracking.owners import say_killed
from spacewarps.tracking.spool import Destination, spools, taken

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
) -> None:
    """Deliver to ``store`` the notes of processes that have ended, the oldest first.

    Args:
        root: the project's folder.
        store: the public name of the store; notes for another one go on waiting.
        open_delivery: connects to an experiment of the store.
        tell: hears why notes cannot be delivered though the store answers.
        note_progress: is called when a note has arrived.
        from_anywhere: also what processes of other machines or containers have left.

    Raises:
        UnansweredError: the store does not answer.
    """
    place = root / SPOOL
    if not spools(place):
        return
    # Nobody begins with the notes of a stage before those of the stages before it have arrived.
    with alone_in(place):
        for folder in spools(place):
            with taken(folder, from_anywhere=from_anywhere) as spool:
                if spool is None or spool.destination.store != store:
                    continue
                try:
                    delivery = open_delivery(spool.destination)
                    while spool.undelivered:
                        delivery.deliver_first(spool)
                        note_progress()
                    delivery.remove_twins(spool)
                except UnansweredError:
                    raise
                except TrackingError as error:
                    tell(error)
                    continue
                say_killed(spool.killed)
                spool.discard()


def count_waiting(root: Path) -> dict[str, int]:
    """Return how many notes of processes that have ended wait for each store, by its public name."""
    found: dict[str, int] = {}
    for folder in spools(root / SPOOL):
        with taken(folder, from_anywhere=True) as spool:
            if spool is not None:
                store = spool.destination.store
                found[store] = found.get(store, 0) + len(spool.undelivered)
    return found
