"""Which kernels libraries compute with: portable ones, which round alike on any processor, or this processor's own.

NumPy, OpenBLAS, torch, oneDNN and MKL each choose by the processor, or by an environment variable that they read when
they are first imported or used. With those for AVX2, and MKL's COMPATIBLE ones, every x86-64 processor with AVX2 gives
the same bits. Only MKL's square root and its logarithm in float64 still approximate as each processor does, so nothing
here uses these.
"""

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from spacewarps.errors import ParamsError

Kernels = Literal["auto", "portable", "native"]

# NumPy's share of the time is small, so it is told always, and no result depends on its kernels for AVX-512.
_NUMPY = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F,AVX512CD,AVX512_SKX,AVX512_CLX,AVX512_CNL,AVX512_ICL,AVX512_SPR,X86_V4",
    "OPENBLAS_CORETYPE": "Haswell",
}
_PORTABLE = {**_NUMPY, "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
# These choose among kernels, too; NumPy refuses to start with its own beside the one that disables features.
_OTHERS_OF_NUMPY = ("NPY_ENABLE_CPU_FEATURES",)
_OTHERS = ("DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_DEFAULT_FPMATH_MODE")
_NEEDED = {"avx2", "fma"}


def pin_numpy() -> None:
    """Let NumPy choose the same kernels on any processor that has them; in vain once it is imported."""
    if "numpy" not in sys.modules and why_not_here() is None:
        _set(_NUMPY, _OTHERS_OF_NUMPY)


def pin_kernels(kernels: Kernels) -> None:
    """Let the libraries of this process, and of those that it starts, choose portable kernels where ``kernels`` say so.

    To be called before anything imports NumPy or torch.

    Args:
        kernels: ``auto`` pins where this processor has what portable kernels need and nothing is imported yet.

    Raises:
        ParamsError: ``kernels`` is portable, but they are not to be had.
    """
    if kernels == "native" or is_pinned():
        return
    pin_numpy()
    why = why_not_here() or _why_too_late()
    if why is None:
        _set(_PORTABLE, _OTHERS)
    elif kernels == "portable":
        raise ParamsError(f"`kernels` is portable, but {why}; set it to native")


def portable_environment() -> dict[str, str]:
    """Return the variables with which a process is to be started to compute portably; none where that cannot be."""
    return dict(_PORTABLE) if why_not_here() is None else {}


def is_pinned() -> bool:
    """Say whether this process computes with portable kernels."""
    return all(os.environ.get(name) == value for name, value in _PORTABLE.items())


def pins() -> dict[str, str]:
    """Return the variables that another machine needs to compute with the kernels of this process."""
    return {name: os.environ[name] for name in _PORTABLE if name in os.environ}


def _set(variables: Mapping[str, str], others: Iterable[str]) -> None:
    os.environ.update(variables)
    for name in others:
        os.environ.pop(name, None)


def why_not_here() -> str | None:
    """Return why this machine cannot compute with portable kernels; none where it can."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        return f"this is {system} on {machine}, and they are for Linux on x86_64"
    missing = [name.upper() for name in sorted(_NEEDED - _flags())]
    return f"this processor has no {' and no '.join(missing)}, which they need" if missing else None


def _why_too_late() -> str | None:
    pinned = all(os.environ.get(name) == value for name, value in _NUMPY.items())
    late = "torch" if "torch" in sys.modules else None if pinned else "NumPy"
    return late and (
        f"{late} was imported before it could be told; call spacewarps.portability.pin_kernels() before anything "
        "imports it"
    )


def _flags() -> set[str]:
    """Return what the processor can do, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
