"""How far long work has come: a bar on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0


def say(line: str) -> None:
    """Print one line, above any bar that is showing; a name in it can neither break it nor move the cursor."""
    # Without a standard output there is nobody to tell.
    if sys.stdout is not None:
        try:
            tqdm.write("".join(sign if sign.isprintable() else " " for sign in line), file=sys.stdout)
            sys.stdout.flush()
        except OSError:
            # Whoever listened has left, or the file for it is full; the work is worth more than its account. Python
            # itself would try once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(what: str, total: int, unit: str = "stamps") -> Iterator[Callable[[int], None]]:
    """Show how much of ``total`` is done, at what rate, and the time left; gives the function that adds to it."""
    if sys.stderr is not None and sys.stderr.isatty():
        with tqdm(desc=what, total=total, unit=f" {unit}", leave=False, dynamic_ncols=True) as bar:

            def move(done: int) -> None:
                try:
                    bar.update(done)
                except OSError:
                    # The terminal is gone; the work is worth more than its account.
                    bar.disable = True

            yield move
        return
    start = last = time.monotonic()
    count = 0

    def advance(done: int) -> None:
        nonlocal count, last
        count += done
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and count:
            last = now
            rate = count / (now - start)
            left = max(0.0, (total - count) / rate)
            say(f"{what}: {count} of {total} {unit}, {rate:.0f}/s, {left:.0f} s left")

    yield advance
