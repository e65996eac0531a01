import errno
import resource
import signal
import subprocess
import sys

import pytest

from spacewarps.interrupts import children_spared
from spacewarps.resources import check_address_space, memory_is_short, shortage


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("in a worker: Traceback\nRuntimeError: could not create a primitive\n"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=str,
)
def test_the_words_for_too_little_memory_are_known(error: Exception) -> None:
    assert memory_is_short(error)
    assert "lower model.embedding" in (shortage(error, "search") or "")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ImportError("No module named 'torch'"),
        OSError(errno.ENOENT, "No such file or directory"),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_a_shortage(error: Exception) -> None:
    assert not memory_is_short(error)
    assert shortage(error, "search") is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EFBIG, "File too large"), "ulimit -f"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room on the disk"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
    ids=str,
)
def test_each_limit_is_named_by_what_raises_it(error: Exception, told: str) -> None:
    assert told in (shortage(error, "train") or "")


def test_too_little_address_space_is_refused_before_a_library_aborts() -> None:
    code = (
        "from spacewarps.resources import check_address_space\n"
        "from spacewarps.errors import SpaceWarpsError\n"
        "try:\n    check_address_space('numpy')\n"
        "except SpaceWarpsError as error:\n    print(error)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (60_000_000, 60_000_000))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.stdout.startswith("ulimit -v allows 0.1 GB of address space, too little"), done


def test_ample_address_space_starts_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a trial was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    check_address_space("no_module_of_this_name")


def test_ctrl_c_passes_by_what_is_started_within_the_block() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('spared')"
    with children_spared():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "spared\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
