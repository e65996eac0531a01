"""Processes that are made up."""

import psutil

from spacewarps.processes import name_of


def of_process(number: int, start: int) -> str:
    """Return the name of a process of this machine, by its number and its start in ticks since that of the machine."""
    machine, start_of_machine, _, _ = name_of(psutil.Process()).split(" ")
    return f"{machine} {start_of_machine} {number} {start}"
