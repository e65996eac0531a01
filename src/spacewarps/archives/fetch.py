"""Fetching the stamps of a catalogue's targets: which are there, who asks for the others, and what comes of each."""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from spacewarps.archives.client import Client, Pace
from spacewarps.archives.faults import FetchError, LeaveAloneError, NoImageError, PassingError, StoppedError
from spacewarps.archives.services import SERVICES, Cutout, Target, cutouts_of
from spacewarps.archives.settings import FetchSettings
from spacewarps.archives.stamps import Stamp, Store, find_earlier
from spacewarps.survey.images import MAX_BYTES
from spacewarps.survey.readers import split_name

# So many targets that are given up one after another are a sign that the archive is down, or has enough of this client.
_GIVEN_UP_IN_A_ROW = 25
_LONGEST_LIST = 1 << 20
# As file systems have it.
_LONGEST_NAME = 255

Progress = Callable[[int], None]


@dataclass
class Fetched:
    """What came of all targets.

    Args:
        rows: for each stamp the target's id, band, file, SHA-256, URL, and what was asked for; sorted.
        stamps: by what was asked for.
        without: the targets that have not all of their stamps, and why.
        given_up: how many of these might have been had.
        asked: for how many targets the archive was asked.
    """

    rows: list[tuple[str, str, str, str, str, str]] = field(default_factory=list)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    without: list[tuple[str, str]] = field(default_factory=list)
    given_up: int = 0
    asked: int = 0

    def reasons(self) -> Counter[str]:
        """Return how many targets each reason stands for."""
        return Counter(reason for _, reason in self.without)


@dataclass(frozen=True)
class _Wanted:
    """Files of a target, by what is asked for."""

    target: Target
    files: dict[str, Cutout]


def fetch_stamps(
    targets: Sequence[Target],
    how: FetchSettings,
    store: Store,
    earlier: Mapping[str, Stamp],
    progress: Progress,
    *,
    first_pause: float = 1.0,
) -> Fetched:
    """Fetch the stamps of ``targets`` that are neither in ``store`` nor among those of an earlier run.

    Args:
        targets: whose ids differ.
        how: which archive is asked for what, and how.
        store: where each stamp is kept as soon as it is there.
        earlier: the stamps of an earlier run.
        progress: is told of each target that is done.
        first_pause: seconds after the first failure of a request.
    """
    outcome = Fetched()
    wanted = []
    for target in sorted(targets, key=lambda target: target.id):
        files = _files_of(target, how, store)
        if fault := next(filter(None, (_name_fault(_name(target, cutout, how)) for cutout in files.values())), None):
            outcome.without.append((target.id, fault))
            progress(1)
        else:
            wanted.append(_Wanted(target, files))
            outcome.stamps |= {
                key: stamp for key in files if (stamp := store.find(key) or find_earlier(earlier, key)) is not None
            }
    lacking = [
        _Wanted(one.target, {key: cutout for key, cutout in one.files.items() if key not in outcome.stamps})
        for one in wanted
        if not one.files.keys() <= outcome.stamps.keys()
    ]
    progress(len(wanted) - len(lacking))
    outcome.asked = len(lacking)
    faults = _ask(lacking, how, store, outcome, progress, first_pause)
    for one in wanted:
        for key, cutout in one.files.items():
            if stamp := outcome.stamps.get(key):
                row = (one.target.id, cutout.band, _name(one.target, cutout, how), stamp.sha256, stamp.url, key)
                outcome.rows.append(row)
        if one.target.id in faults:
            outcome.without.append((one.target.id, str(faults[one.target.id])))
    outcome.given_up = sum(not isinstance(fault, NoImageError) for fault in faults.values())
    return outcome


def _files_of(target: Target, how: FetchSettings, store: Store) -> dict[str, Cutout]:
    return {store.key_of(cutout): cutout for cutout in cutouts_of(target, how)}


def _ask(
    lacking: Sequence[_Wanted],
    how: FetchSettings,
    store: Store,
    outcome: Fetched,
    progress: Progress,
    first_pause: float,
) -> dict[str, FetchError]:
    """Ask for what is lacking; return why some targets lack it still."""
    stop = threading.Event()
    pace = Pace(how.per_second, stop)
    # In an order that has nothing to do with the sky, as what an archive does not cover lies together.
    waiting = deque(sorted(lacking, key=lambda one: next(iter(one.files))))
    done: queue.SimpleQueue[tuple[_Wanted, dict[str, Stamp], FetchError | BaseException | None]] = queue.SimpleQueue()

    def work(client: Client) -> None:
        while not stop.is_set():
            try:
                one = waiting.popleft()
            except IndexError:
                return
            found: dict[str, Stamp] = {}
            fault: FetchError | BaseException | None = None
            try:
                fault = _fetch(one, how, client, store, found)
            except StoppedError:
                return
            except BaseException as error:
                fault = error
            done.put((one, found, fault))

    faults: dict[str, FetchError] = {}
    left = {one.target.id for one in lacking}
    end = time.monotonic() + how.max_hours * 3600
    in_a_row, why = 0, ""
    for _ in range(min(how.connections, len(lacking))):
        client = Client(pace, tries=how.tries, timeout_seconds=how.timeout_seconds, first_pause=first_pause)
        # Not waited for at the end: Ctrl-C does not wait for an archive.
        threading.Thread(target=work, args=[client], daemon=True).start()
    try:
        while left and not why:
            try:
                one, found, fault = done.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                why = f"not asked for, as the {how.max_hours:g} hours allowed were over"
                break
            left.discard(one.target.id)
            progress(1)
            outcome.stamps |= found
            if fault is not None and not isinstance(fault, FetchError):
                raise fault
            if fault is not None:
                faults[one.target.id] = fault
            in_a_row = in_a_row + 1 if fault is not None and not isinstance(fault, NoImageError) else 0
            if isinstance(fault, LeaveAloneError):
                why = f"not asked for, as the archive is to be left alone ({fault})"
            elif in_a_row >= _GIVEN_UP_IN_A_ROW:
                why = f"not asked for, as {in_a_row} targets in a row were given up ({fault})"
    finally:
        stop.set()
    return faults | dict.fromkeys(left, FetchError(why))


def _fetch(
    one: _Wanted, how: FetchSettings, client: Client, store: Store, found: dict[str, Stamp]
) -> FetchError | None:
    """Add the stamps of a target to ``found``; return a reason why one is not there."""
    find = SERVICES[how.service].find if how.service in SERVICES else None
    urls: Sequence[str | FetchError] = [cutout.url for cutout in one.files.values()]

    def ask(url: str, read: Callable[[str], Mapping[str, str]]) -> Mapping[str, str]:
        return client.get(url, _LONGEST_LIST, lambda content: read(_as_text(content)))

    def stamp(key: str, cutout: Cutout, url: str) -> Stamp:
        return client.get(url, MAX_BYTES, lambda content: store.keep(key, cutout, content, url))

    try:
        if find is not None:
            urls = find(one.target, [*one.files.values()], how, ask)
    except FetchError as fault:
        return fault
    faults: list[FetchError] = []
    for (key, cutout), url in zip(one.files.items(), urls, strict=True):
        try:
            if isinstance(url, FetchError):
                raise url
            found[key] = stamp(key, cutout, url)
        except LeaveAloneError as fault:
            return fault
        except FetchError as fault:
            faults.append(fault)
    # What may be had another time comes before what is not there.
    return min(faults, key=lambda fault: isinstance(fault, NoImageError), default=None)


def _as_text(content: bytes) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise PassingError("list of images that is none") from None


def _name(target: Target, cutout: Cutout, how: FetchSettings) -> str:
    return f"{target.id}{f'-{cutout.band}' if cutout.band else ''}.{how.format}"


def _name_fault(name: str) -> str | None:
    """Return why an id cannot name a file that the survey finds again."""
    stem, suffix = split_name(name)
    if "/" in name or "\\" in name or "\0" in name or name.startswith(".") or f"{stem}{suffix}" != name:
        return "id that is not a file name"
    try:
        return "id that is too long for a file name" if len(name.encode()) > _LONGEST_NAME else None
    except UnicodeEncodeError:
        return "id that is not a file name"
