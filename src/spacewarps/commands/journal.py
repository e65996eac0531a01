"""The command ``journal``: what candidates are known, and room made where they are too many."""

import argparse
import time

from spacewarps.progress import say
from spacewarps.search.entries import list_entries, prune
from spacewarps.stages.context import Stage

_DAY, _MEGABYTE = 86400.0, 1_000_000


def run(stage: Stage, options: argparse.Namespace) -> None:
    """List the journal; or first prune it, where an age or a size is given."""
    if options.older_than is not None or options.larger_than is not None:
        count, size = prune(
            stage.journal,
            older_than=None if options.older_than is None else options.older_than * _DAY,
            larger_than=None if options.larger_than is None else round(options.larger_than * _MEGABYTE),
        )
        say(f"{count} entries deleted, {size / _MEGABYTE:.1f} MB")
    count = total = 0
    for entry in list_entries(stage.journal):
        count, total = count + 1, total + entry.size
        state = "" if entry.epochs == entry.of_epochs else f"  (epoch {entry.epochs} of {entry.of_epochs})"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.modified))
        name = entry.path.name[:12]
        say(f"{used}  {name}  {entry.size / _MEGABYTE:7.2f} MB  {entry.accuracy:.4f}  {entry.what}{state}")
    say(f"{count} entries, {total / _MEGABYTE:.1f} MB in {stage.journal}")
