"""Processes that are made up."""

import psutil

from spacewarps.processes import name_of


def of_process(number: int, start: float) -> str:
    """Return the name of a process of this machine, by its number and its start in seconds since 1970."""
    machine, start_of_machine, _, _ = name_of(psutil.Process()).split(" ")
    return f"{machine} {start_of_machine} {number} {start:.2f}"
