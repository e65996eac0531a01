"""Ctrl-C and the processes that this one starts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def children_spared() -> Iterator[None]:
    """Let Ctrl-C pass by the processes that are started within the block, and those that they start.

    A terminal interrupts every process in it, but only the one that was typed at knows what to do: it ends the others,
    which would each print a traceback. They inherit what is blocked here, from their first moment on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
