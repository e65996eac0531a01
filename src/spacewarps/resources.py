"""What a machine can be short of: how the system and the libraries say so, and what the user can do about it."""

import errno
import os
import re
import resource
import socket
import subprocess
import sys

from spacewarps.errors import SpaceWarpsError

# Of torch and its parts (ATen, CUDA's libraries, MKL, oneDNN), which have no type of their own for it on the CPU; of
# NumPy, pandas and OpenBLAS; of the C and C++ libraries, as Python and the loader of libraries hand it on.
_MEMORY_IS_SHORT = re.compile(
    r"""
    _alloc(ation)?_failed | bad_alloc | (can't|cannot|could[ ]not|unable[ ]to)[ ]allocate | failed[ ]to[ ]map[ ]segment
    | could[ ]not[ ]create[ ]a[ ]memory | could[ ]not[ ]execute[ ]a[ ]primitive | memory[ ]allocation
    | not[ ]enough[ ]memory | out[ ]of[ ]memory | unable[ ]to[ ]mmap
    | could[ ]not[ ]create[ ]a[ ]primitive$  # with more words behind it: there is no such kernel
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_THREADS_ARE_SHORT = re.compile("can't start new thread|thread creation failed", re.IGNORECASE)

_SHORT = {
    errno.EAGAIN: "no more processes or threads can be started; raise the limit (ulimit -u), or lower search.workers, "
    "compute.threads or search.threads",
    errno.EFBIG: "a file may not become as large as that; raise the limit (ulimit -f)",
    errno.EMFILE: "no more files can be open at once; raise the limit (ulimit -n), or lower search.workers",
    errno.ENOSPC: "no space is left to write to; make room on the disk",
    errno.EDQUOT: "the quota of disk space is used up; make room in it",
}
_LESS_MEMORY = {
    "simulate": "lower simulate.n_samples",
    "search": "lower model.embedding, model.head_grid, search.k_candidates, search.workers or optimiser.batch_size",
    "train": "lower optimiser.batch_size, or model.embedding, model.head_grid or search.k_candidates and search again",
    "evaluate": "lower model.embedding, model.head_grid or search.k_candidates, and search again",
}
# Nothing that the stages import needs as much: with its largest build, torch's with CUDA, that takes about 4 GB.
_AMPLE_ADDRESS_SPACE = 8_000_000_000


def available_cores() -> int:
    """Return how many cores this process may use, with a container's quota."""
    # Only here, as it takes a moment to load.
    from joblib.externals.loky import cpu_count

    return int(cpu_count())


def processes_that_fit(threads: int) -> int:
    """Return how many processes of so many ``threads`` the cores allow, at least one."""
    # Half-used cores gain less than switching between processes costs.
    return max(1, available_cores() // threads)


def check_port_is_free(port: int, target: str) -> None:
    """Check that nobody else has ``port`` of the loopback interface, for ``target`` of the Makefile.

    Raises:
        SpaceWarpsError: somebody has.
    """
    try:
        if port == 0:
            raise OSError("it stands for any, and nobody would know which")
        with socket.socket() as there:
            # As servers do: what an earlier one has left closing is no hindrance.
            there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            there.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise SpaceWarpsError(
            f"port {port} of 127.0.0.1 cannot be had ({error}); name another: make {target} PORT=5001"
        ) from None


def memory_is_short(error: BaseException) -> bool:
    """Say whether ``error`` means that memory could not be had, on the CPU or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return says_memory_is_short(str(error))


def says_memory_is_short(text: str) -> bool:
    """Say whether ``text`` holds what the system or a library says when memory cannot be had."""
    return _MEMORY_IS_SHORT.search(text) is not None


def shortage(error: BaseException, stage: str) -> str | None:
    """Return what ``error`` says that the machine is short of, and what to do in ``stage``; None if it says no such."""
    if memory_is_short(error):
        limit = _address_space()
        allowed = "" if limit is None else f" (ulimit -v allows {_gigabytes(limit)} of address space)"
        less = _LESS_MEMORY.get(stage, "close what else runs")
        return f"there is not enough memory{allowed}; {less}, or take a machine that has more"
    if isinstance(error, OSError):
        # In the system's own words; who raises it with others has something else to say.
        number = error.errno or 0
        return _SHORT.get(number) if error.strerror == os.strerror(number) else None
    return _SHORT[errno.EAGAIN] if _THREADS_ARE_SHORT.search(str(error)) else None


def check_address_space(module: str) -> None:
    """Check that ``module`` can be imported within the address space that this process may have (``ulimit -v``).

    Libraries in C++ abort the whole process where it is too small for them, and none says beforehand how much it needs.
    So another process tries it, wherever it could be too small.

    Raises:
        SpaceWarpsError: it is too small.
    """
    limit = _address_space()
    if limit is None or limit >= _AMPLE_ADDRESS_SPACE:
        return
    trial = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, errors="replace", check=False
    )
    # What else may be wrong with an import is said when this process does it.
    if trial.returncode < 0 or (trial.returncode and says_memory_is_short(trial.stderr)):
        raise SpaceWarpsError(
            f"ulimit -v allows {_gigabytes(limit)} of address space, too little for torch and the other libraries to "
            "load; raise it (ulimit -v unlimited): what a library reserves is not what it uses"
        )


def _address_space() -> int | None:
    """Return the bytes of address space that this process may have, or None for any number."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
