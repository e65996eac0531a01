"""Portable kernels: chosen before libraries are imported, and the same bits on any processor that is emulated here."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from spacewarps import portability
from spacewarps.errors import ParamsError
from spacewarps.portability import is_pinned, pin_kernels, pins, portable_environment
from spacewarps.training.compute import computes_in_bf16, kind_of_machine, set_up_again, set_up_compute
from spacewarps.training.settings import ComputeSettings

PIPELINE = Path(__file__).with_name("tiny_pipeline.py")
#: Debian's name for it; elsewhere it may come with the rest of QEMU.
EMULATOR = shutil.which("qemu-x86_64")
PROCESSORS = ["Haswell-v4", "Skylake-Server", "EPYC-Rome"]
on_linux = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="portable kernels are for Linux on x86-64"
)


def without_pins() -> dict[str, str]:
    names = {*portability._PORTABLE, *portability._OTHERS, *portability._OTHERS_OF_NUMPY}
    return {name: value for name, value in os.environ.items() if name not in names}


def run_python(*arguments: str, **variables: str) -> str:
    return output_of([sys.executable, *arguments], variables)


def emulated(processor: str, *arguments: str) -> str:
    assert EMULATOR is not None
    # Started by the emulator, Python would not see that it stands in an environment of its own.
    path = os.pathsep.join(filter(None, sys.path))
    python = os.path.realpath(sys.executable)
    return output_of([EMULATOR, "-cpu", processor, "-E", f"PYTHONPATH={path}", python, *arguments], {})


def output_of(command: list[str], variables: dict[str, str]) -> str:
    done = subprocess.run(command, env=without_pins() | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bits(kernels: str, precision: str = "fp32") -> dict[str, str]:
    found: dict[str, Any] = json.loads(run_python(str(PIPELINE), kernels, "cpu", precision))
    assert (found["machine"] == "x86_64, portable kernels") == (kernels == "portable")
    return dict(found["found"])


@pytest.fixture(scope="module")
def portable_bits() -> dict[str, str]:
    return bits("portable")


@pytest.fixture(scope="module")
def native_bits() -> dict[str, str]:
    return bits("native")


@on_linux
@pytest.mark.long
def test_this_processors_own_kernels_give_other_bits(
    native_bits: dict[str, str], portable_bits: dict[str, str]
) -> None:
    assert native_bits.keys() == portable_bits.keys()
    assert [name for name in native_bits if native_bits[name] == portable_bits[name]] == []


@on_linux
@pytest.mark.long
def test_this_processors_own_kernels_repeat_to_the_bit(native_bits: dict[str, str]) -> None:
    assert bits("native") == native_bits


@on_linux
@pytest.mark.long
@pytest.mark.skipif(not computes_in_bf16(torch.device("cpu")), reason="this processor has no arithmetic for bfloat16")
def test_bfloat16_repeats_to_the_bit(native_bits: dict[str, str]) -> None:
    found = bits("native", "bf16")
    assert bits("native", "bf16") == found
    assert [name for name in found if found[name] == native_bits[name]] == []


@on_linux
@pytest.mark.long
@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 is not installed (Debian: apt-get install qemu-user)")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_an_emulated_processor_gives_the_same_bits(processor: str, portable_bits: dict[str, str]) -> None:
    assert json.loads(emulated(processor, str(PIPELINE), "portable"))["found"] == portable_bits


SHOW = """
import json, os, sys
from spacewarps.portability import *
from spacewarps import portability
{prelude}
try:
    pin_kernels({kernels!r})
    import numpy
except Exception as error:
    print(type(error).__name__, error)
else:
    print(is_pinned())
"""


def shown(kernels: str, prelude: str = "", **variables: str) -> str:
    return run_python("-c", SHOW.format(kernels=kernels, prelude=prelude), **variables).strip()


@on_linux
def test_kernels_are_pinned_where_they_can_be_and_as_asked_for() -> None:
    assert shown("auto") == shown("portable") == "True"
    assert shown("native") == "False"
    # What someone set for another program does not count.
    others = {"MKL_CBWR": "AVX512", "DNNL_MAX_CPU_ISA": "AVX512_CORE", "OPENBLAS_CORETYPE": "SkylakeX"}
    assert shown("portable", NPY_ENABLE_CPU_FEATURES="AVX2", **others) == "True"


@on_linux
@pytest.mark.parametrize(
    ("prelude", "why"),
    [
        ("import torch", "torch was imported before it could be told"),
        ("import numpy", "NumPy was imported before it could be told"),
        ("portability._flags = lambda: {'avx', 'fma'}", "this processor has no AVX2, which they need"),
        ("portability._flags = set", "this processor has no AVX2 and no FMA, which they need"),
        ("portability.platform.machine = lambda: 'aarch64'", "this is Linux on aarch64"),
    ],
)
def test_where_they_cannot_be_had_one_line_says_why_and_auto_goes_without(prelude: str, why: str) -> None:
    said = shown("portable", prelude)
    assert said.startswith(f"ParamsError `kernels` is portable, but {why}")
    assert said.count("\n") == 0
    assert said.endswith("set it to native")
    assert shown("auto", prelude) == "False"


def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process look as if it had been told in time."""
    for name, value in portable_environment().items():
        monkeypatch.setenv(name, value)


@on_linux
@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 is not installed (Debian: apt-get install qemu-user)")
def test_a_processor_without_avx2_is_told_to_take_nothing_that_it_has_not() -> None:
    # What Python asks of the processor is what the emulator has; what Linux says of it is that of this machine.
    program = (
        "from spacewarps import portability; portability._flags = lambda: {'sse4_2'}; portability.pin_numpy(); "
        "portability.pin_kernels('auto'); import numpy as np; print((np.ones((64, 64)) @ np.ones((64, 64)))[0, 0])"
    )
    assert emulated("Nehalem", "-c", program) == "64.0\n"


def test_portable_kernels_are_one_kind_of_machine_and_compute_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    usual = kind_of_machine(compute.device)
    with pytest.raises(ParamsError, match="`kernels` is portable, but torch was imported before"):
        set_up_compute(ComputeSettings("cpu", "fp32", 1, "portable"))
    pinned(monkeypatch)
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        with pytest.raises(ParamsError, match="were set after torch was imported"):
            set_up_compute(ComputeSettings("cpu", "fp32", 1))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(ParamsError, match="`kernels` is native, but this process was started with portable ones"):
        set_up_compute(ComputeSettings("cpu", "fp32", 1, "native"))
    assert is_pinned()
    assert pins() == portable_environment()
    assert kind_of_machine(compute.device) == f"{platform.machine()}, portable kernels" != usual
    assert not computes_in_bf16(compute.device)
    assert set_up_compute(ComputeSettings("cpu", "auto", 1, "portable")) == compute
    with pytest.raises(ParamsError, match="`precision` is bf16, which portable kernels do not compute in"):
        set_up_compute(ComputeSettings("cpu", "bf16", 1))
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    assert not is_pinned()
    assert "MKL_CBWR=AVX2" in kind_of_machine(compute.device)


def test_a_machine_of_a_cluster_without_avx2_is_refused_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    pinned(monkeypatch)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(portability, "_flags", lambda: {"sse4_2"})
    with pytest.raises(ParamsError, match=r"but this processor has no AVX2 and no FMA, .*; take this machine out of"):
        set_up_again(compute)


def test_what_is_pinned_already_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned(monkeypatch)
    pin_kernels("portable")
    assert is_pinned()
