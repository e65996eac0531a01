"""The device, the precision and the memory that training computes with."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

# joblib's own wrapper counts one core where there is no shared memory.
from torch import nn

from spacewarps.errors import ModelError, ParamsError
from spacewarps.portability import Kernels, is_pinned, pin_kernels, why_not_here
from spacewarps.resources import available_cores
from spacewarps.seeds import derive_seed
from spacewarps.training.settings import ComputeSettings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_SIZE, _NEVER = 2**31 - 1, -1
# Params of a larger machine give the same bits on a smaller one. On 2 cores a training step takes four times as long
# with 64 threads as with 1, and fourteen times with 1,024.
_THREADS_ANYWHERE, _THREADS_A_CORE = 64, 4
_OF_PROCESSORS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
_OF_ACCELERATORS = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


@dataclass(frozen=True)
class Compute:
    """Where networks run, in which precision, and on how many threads."""

    device: torch.device
    precision: torch.dtype
    threads: int

    def place(self, model: nn.Module) -> None:
        """Move ``model`` to the device, its filters in the layout in which convolutions are fastest.

        This process computes on ``threads`` threads from here on, whatever another setting asked for in between.
        """
        torch.set_num_threads(self.threads)
        model.to(self.device).to(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the context in which networks compute."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16, cache_enabled=True
        )


def set_up_compute(settings: ComputeSettings) -> Compute:
    """Resolve ``auto``, and set this process up so that the same work gives the same bits.

    Raises:
        ParamsError: there is no CUDA device, but one is asked for; far more threads than this machine has cores; or
            portable kernels are asked for, which this process does not compute with, or not in bfloat16.
    """
    device, precision, threads = settings.device, settings.precision, settings.threads
    pin_kernels(settings.kernels)
    if is_pinned():
        _check_pinned(settings.kernels)
    cores = available_cores()
    if threads > max(_THREADS_ANYWHERE, _THREADS_A_CORE * cores):
        raise ParamsError(
            f"{threads} threads on {cores} core{'s' * (cores != 1)} would take many times as long as {cores}; "
            "lower `threads`"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ParamsError("`device` is cuda, but this machine has no CUDA device that torch can use; set it to cpu")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "bf16" and where.type == "cpu" and is_pinned():
        raise ParamsError("`precision` is bf16, which portable kernels do not compute in; set `kernels` to native")
    bf16 = precision == "bf16" or (precision == "auto" and computes_in_bf16(where))
    torch.set_num_threads(threads)
    # cuBLAS is deterministic only with a workspace of fixed size (CUDA's own advice, which torch checks for).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms does, which also imports torch's compiler: a second of every process.
    torch.set_deterministic_debug_mode("error")
    # What a notebook may have set, and a worker would not know of.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    # Filling memory that is about to be written guards against reading it first; the tests do that instead.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    return Compute(where, torch.bfloat16 if bf16 else torch.float32, threads)


def _check_pinned(kernels: Kernels) -> None:
    if kernels == "native":
        raise ParamsError("`kernels` is native, but this process was started with portable ones; start another")
    # The search may run on another machine.
    if why := why_not_here():
        raise ParamsError(
            f"this process was started with portable kernels, but {why}; take this machine out of the cluster, or set "
            "`kernels` to native on all of it"
        )
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        raise ParamsError(
            "the variables of portable kernels were set after torch was imported; set them before this process starts, "
            "or call spacewarps.portability.pin_kernels() in time"
        )


def check_surroundings() -> None:
    """Check that the program around has not set what would change the bits of a search or a training.

    Raises:
        ModelError: it has.
    """
    found = {
        f"the default dtype is {torch.get_default_dtype()}": torch.get_default_dtype() != torch.float32,
        f"the default device is {torch.get_default_device()}": torch.get_default_device().type != "cpu",
        "torch.inference_mode() is on": torch.is_inference_mode_enabled(),
        "gradients are off, as in torch.no_grad()": not torch.is_grad_enabled(),
        "torch.autocast() is on": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
    }
    for what, is_so in found.items():
        if is_so:
            raise ModelError(f"{what}, so a search or a training here would come to other weights; call it outside")


def set_up_again(compute: Compute) -> None:
    """Set another process up to compute what ``compute`` was set up for."""
    device: Literal["cpu", "cuda"] = "cuda" if compute.device.type == "cuda" else "cpu"
    precision: Literal["fp32", "bf16"] = "bf16" if compute.precision == torch.bfloat16 else "fp32"
    set_up_compute(ComputeSettings(device, precision=precision, threads=compute.threads))


def kind_of_machine(device: torch.device) -> str:
    """Return what distinguishes machines that may round differently: the processor, or the accelerator."""
    portable = is_pinned()
    parts = [platform.machine(), *(["portable kernels"] if portable else _own_kernels())]
    if device.type == "cuda":
        parts += [torch.cuda.get_device_name(), str(torch.version.cuda), str(torch.backends.cudnn.version())]  # type: ignore[no-untyped-call]
    # These choose other kernels than the processor would get by itself.
    names = _OF_ACCELERATORS if portable else (*_OF_PROCESSORS, *_OF_ACCELERATORS)
    parts += [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    if not torch.backends.mkldnn.enabled:
        parts.append("oneDNN off")
    return ", ".join(parts)


def _own_kernels() -> list[str]:
    return [torch.backends.cpu.get_cpu_capability(), own_processor()]


def own_processor() -> str:
    """Return this machine's processor: vendor, family and model, where the system says so."""
    wanted = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    fields = dict([part.strip() for part in line.split(":", 1)] for line in lines if ":" in line)
    return " ".join(fields[name] for name in wanted if name in fields)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory, and not to give it back to the system.

    A feature map is larger than the size from which glibc maps every allocation afresh, so each training step would
    fault all its pages in again; that takes as long as the arithmetic. Where the C library is another one, nothing
    changes.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_SIZE)
        # The largest size would not do here: more than 2 GiB can be free at once.
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


@contextmanager
def named_random_state(seed: int, *names: str | int) -> Iterator[None]:
    """Seed torch's global generators for ``names`` within the block, and put them back after it.

    For what draws from the global generators and takes no other: initialisation and dropout.
    """
    # All devices by name: left to itself, torch takes all of them too, but warns where there are several.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(seed, *names))
        yield


def computes_in_bf16(device: torch.device) -> bool:
    """Say whether ``device`` has arithmetic for bfloat16, rather than emulating it, and kernels that use it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return not is_pinned() and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
