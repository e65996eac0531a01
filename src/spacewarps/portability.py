"""Which kernels libraries compute with: portable ones, which round alike on any processor, or this processor's own.

NumPy, OpenBLAS, torch, oneDNN and MKL each choose by the processor, or by an environment variable that they read when
they are first imported or used. With those for AVX2, and MKL's COMPATIBLE ones, every x86-64 processor with AVX2 gives
the same bits. Only MKL's square root and its logarithm in float64 still approximate as each processor does, so nothing
here uses these.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

from spacewarps.errors import ParamsError

Kernels = Literal["auto", "portable", "native"]

# NumPy's share of the time is small, so it is told always, and no result depends on its kernels for AVX-512.
_NUMPY = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F,AVX512CD,AVX512_SKX,AVX512_CLX,AVX512_CNL,AVX512_ICL,AVX512_SPR,X86_V4",
    "OPENBLAS_CORETYPE": "Haswell",
}
#: The variables of a process that computes with portable kernels.
PORTABLE = {**_NUMPY, "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
# These choose among kernels, too.
_OTHERS = ("DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_DEFAULT_FPMATH_MODE")
_NEEDED = {"avx2", "fma"}


def pin_numpy() -> None:
    """Let NumPy choose the same kernels on any processor; to be called before it is imported, in vain after that."""
    if "numpy" not in sys.modules and _is_x86():
        os.environ.update(_NUMPY)


def pin_kernels(kernels: Kernels) -> None:
    """Let the libraries of this process, and of those that it starts, choose portable kernels where ``kernels`` say so.

    To be called before torch is imported.

    Args:
        kernels: ``auto`` pins where this processor has what portable kernels need and torch is not imported yet.

    Raises:
        ParamsError: ``kernels`` is portable, but they are not to be had.
    """
    if kernels == "native" or is_pinned():
        return
    why = _why_not()
    if why is None:
        os.environ.update(PORTABLE)
        for name in _OTHERS:
            os.environ.pop(name, None)
    elif kernels == "portable":
        raise ParamsError(f"`kernels` is portable, but {why}")


def is_pinned() -> bool:
    """Say whether this process computes with portable kernels."""
    return all(os.environ.get(name) == value for name, value in PORTABLE.items())


def pins() -> dict[str, str]:
    """Return the variables that another machine needs to compute with the kernels of this process."""
    return {name: os.environ[name] for name in PORTABLE if name in os.environ}


def _why_not() -> str | None:
    if not _is_x86():
        return (
            f"this is {platform.system()} on {platform.machine()}, and they are for Linux on x86-64; set it to native"
        )
    missing = [name.upper() for name in sorted(_NEEDED - _flags())]
    if missing:
        return f"this processor has no {' and no '.join(missing)}, which they need; set it to native"
    if "torch" in sys.modules:
        return (
            "torch was imported before it could be told; call spacewarps.portability.pin_numpy() and pin_kernels() "
            "before anything imports NumPy or torch, or set it to native"
        )
    if any(os.environ.get(name) != value for name, value in _NUMPY.items()):
        return (
            "NumPy was imported before it could be told; call spacewarps.portability.pin_numpy() before anything "
            "imports it, or set it to native"
        )
    return None


def _is_x86() -> bool:
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _flags() -> set[str]:
    """Return what the processor can do, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
