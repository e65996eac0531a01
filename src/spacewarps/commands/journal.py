"""The command ``journal``: what candidates are known, room made where they are too many, and others' taken over."""

import argparse
import re
import time
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.progress import progress_bar, say
from spacewarps.search.entries import Entries, FolderEntries, copy_entries, list_entries, prune
from spacewarps.stages.context import Stage

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?P<second>/?)")
_DAY, _MEGABYTE = 86400.0, 1_000_000


def run(stage: Stage, options: argparse.Namespace) -> None:
    """Prune the journal where an age or a size is given; then list it, or copy entries to a place or from one.

    Raises:
        SpaceWarpsError: where entries are to come from are none, or where they are to go cannot be used.
    """
    if options.older_than is not None or options.larger_than is not None:
        count, size = prune(
            stage.journal,
            older_than=None if options.older_than is None else options.older_than * _DAY,
            larger_than=None if options.larger_than is None else round(options.larger_than * _MEGABYTE),
        )
        say(f"{count} entries deleted, {size / _MEGABYTE:.1f} MB")
    if options.action:
        _copy(options.action, FolderEntries(stage.journal), options.place)
        return
    count = total = 0
    for entry in list_entries(stage.journal):
        count, total = count + 1, total + entry.size
        state = "" if entry.epochs == entry.of_epochs else f"  (epoch {entry.epochs} of {entry.of_epochs})"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.modified))
        name = entry.path.name[:12]
        say(f"{used}  {name}  {entry.size / _MEGABYTE:7.2f} MB  {entry.accuracy:.4f}  {entry.what}{state}")
    say(f"{count} entries, {total / _MEGABYTE:.1f} MB in {stage.journal}")


def _copy(action: str, journal: FolderEntries, place: str) -> None:
    others = _entries_at(place)
    source, target = (journal, others) if action == "push" else (others, journal)
    count = len(source.names())
    if not count:
        advice = "run a search first" if action == "push" else "name the place that entries were pushed to"
        raise SpaceWarpsError(f"{source}: no journal is there, or an empty one; {advice}")
    if isinstance(target, FolderEntries):
        _make(target.folder)
    if isinstance(others, FolderEntries) and others.folder.samefile(journal.folder):
        raise SpaceWarpsError(f"{others} is this project's own journal; name another place")
    with progress_bar(action, count, "entries") as advance:
        copied = copy_entries(source, target, advance)
    damaged = f", {copied.damaged} damaged and left out" if copied.damaged else ""
    say(f"{copied.new} entries copied to {target}, {copied.known} known there already{damaged}")


def _entries_at(place: str) -> Entries:
    address = _ADDRESS.match(place)
    if address is None or Path(place).exists():
        return FolderEntries(Path(place))
    if not address["second"]:
        raise SpaceWarpsError(f"{place}: an address has two slashes, as in s3://BUCKET/PATH")
    # DVC takes a second to import, which a folder does without.
    from spacewarps.commands.remote_entries import find_entries

    return find_entries(place)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpaceWarpsError(f"{folder}: no folder can be made there ({error.strerror}); name another") from None
