"""The command ``journal``: what candidates are known, room made where they are too many, and others' taken over."""

import argparse
import re
import time
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.progress import say
from spacewarps.search.entries import SUFFIX, copy_entries, list_entries, prune
from spacewarps.stages.context import Stage

# As a path has it: with one slash.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_DAY, _MEGABYTE = 86400.0, 1_000_000


def run(stage: Stage, options: argparse.Namespace) -> None:
    """Prune the journal where an age or a size is given; then list it, or copy entries to a folder or from one.

    Raises:
        SpaceWarpsError: where entries are to come from are none, or where they are to go is no folder.
    """
    if options.older_than is not None or options.larger_than is not None:
        count, size = prune(
            stage.journal,
            older_than=None if options.older_than is None else options.older_than * _DAY,
            larger_than=None if options.larger_than is None else round(options.larger_than * _MEGABYTE),
        )
        say(f"{count} entries deleted, {size / _MEGABYTE:.1f} MB")
    if options.action:
        _copy(options.action, stage.journal, options.folder)
        return
    count = total = 0
    for entry in list_entries(stage.journal):
        count, total = count + 1, total + entry.size
        state = "" if entry.epochs == entry.of_epochs else f"  (epoch {entry.epochs} of {entry.of_epochs})"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.modified))
        name = entry.path.name[:12]
        say(f"{used}  {name}  {entry.size / _MEGABYTE:7.2f} MB  {entry.accuracy:.4f}  {entry.what}{state}")
    say(f"{count} entries, {total / _MEGABYTE:.1f} MB in {stage.journal}")


def _copy(action: str, journal: Path, folder: Path) -> None:
    if _ADDRESS.match(str(folder)) and not folder.exists():
        raise SpaceWarpsError(f"{folder}: an address, not a folder; candidates are copied to folders and from them")
    source, target = (journal, folder) if action == "push" else (folder, journal)
    if not any(source.glob(f"*{SUFFIX}")):
        advice = "run a search first" if action == "push" else "name the folder that entries were pushed to"
        raise SpaceWarpsError(f"{source}: no journal is there, or an empty one; {advice}")
    if target.exists() and target.samefile(source):
        raise SpaceWarpsError(f"{folder} is this project's own journal; name another folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpaceWarpsError(f"{target}: no folder can be made there ({error.strerror}); name another") from None
    copied = copy_entries(source, target)
    damaged = f", {copied.damaged} damaged and left out" if copied.damaged else ""
    say(f"{copied.new} entries copied to {target}, {copied.known} known there already{damaged}")
