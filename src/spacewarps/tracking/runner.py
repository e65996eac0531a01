"""Which process runs the pipeline that a stage belongs to."""

import os

import psutil

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh"})


def runner_of_the_pipeline() -> psutil.Process:
    """Return the process that the stages of this run of the pipeline have in common: DVC, or this one by itself."""
    process = psutil.Process()
    # Typed by hand, a stage is a run of its own.
    return _first_that_is_no_shell(process) if is_run_by_dvc() else process


def is_run_by_dvc() -> bool:
    """Return whether DVC has started this stage, as part of a run of the pipeline."""
    return "DVC_STAGE" in os.environ


def _first_that_is_no_shell(process: psutil.Process) -> psutil.Process:
    """Return the first ancestor of ``process`` that is no shell, or the process itself if that cannot be seen.

    DVC runs each stage in a shell of its own, so it is DVC itself; its start time tells it from an earlier process of
    the same number.
    """
    try:
        for ancestor in process.parents():
            if ancestor.name() not in _SHELLS:
                ancestor.create_time()
                return ancestor
    except psutil.Error:
        # It has ended, or the system hides other processes.
        return process
    return process
