import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from spacewarps.errors import ModelError, ParamsError
from spacewarps.model.network import ProgressiveModel
from spacewarps.resources import available_cores
from spacewarps.training.compute import (
    Compute,
    check_surroundings,
    kind_of_machine,
    named_random_state,
    set_up_compute,
)
from spacewarps.training.settings import ComputeSettings


@pytest.fixture(autouse=True)
def _one_thread_afterwards(compute: Compute) -> None:
    assert compute.threads == 1


def test_the_precision_that_is_asked_for_is_used() -> None:
    assert set_up_compute(ComputeSettings("cpu", "fp32", 1)).precision == torch.float32
    bf16 = set_up_compute(ComputeSettings("cpu", "bf16", 1))
    assert bf16.precision == torch.bfloat16
    with bf16.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_auto_takes_bf16_only_where_the_processor_has_it() -> None:
    capabilities = torch.cpu.get_capabilities()
    has_it = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    assert (set_up_compute(ComputeSettings("cpu", "auto", 1)).precision == torch.bfloat16) == has_it


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_a_missing_cuda_device_is_said_in_one_line() -> None:
    with pytest.raises(ParamsError, match=r"^`device` is cuda, but this machine has no CUDA device"):
        set_up_compute(ComputeSettings("cuda", "auto", 1))
    assert set_up_compute(ComputeSettings("auto", "auto", 1)).device.type == "cpu"


def test_far_more_threads_than_cores_are_refused_and_some_more_are_not() -> None:
    cores = available_cores()
    set_up_compute(ComputeSettings("cpu", "fp32", max(64, 4 * cores)))
    with pytest.raises(ParamsError) as caught:
        set_up_compute(ComputeSettings("cpu", "fp32", max(64, 4 * cores) + 1))
    told = f"{max(64, 4 * cores) + 1} threads on {cores} core{'s' * (cores != 1)} would take many times as long"
    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("lower `threads`")
    set_up_compute(ComputeSettings("cpu", "fp32", 1))


def test_operations_without_a_deterministic_kernel_are_refused() -> None:
    set_up_compute(ComputeSettings("cpu", "fp32", 1))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]


def test_placing_a_network_sets_the_threads_that_its_settings_name() -> None:
    one = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    set_up_compute(ComputeSettings("cpu", "fp32", 2))
    assert torch.get_num_threads() == 2
    one.place(ProgressiveModel((1, 4, 4), (), ("a", "b")))
    assert torch.get_num_threads() == 1


def test_a_named_random_state_is_the_same_every_time_and_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    with named_random_state(1, "a"):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    with named_random_state(1, "a"):
        assert torch.equal(torch.rand(3), first)
    with named_random_state(1, "b"):
        assert not torch.equal(torch.rand(3), first)


def test_a_named_random_state_is_left_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="stop"), named_random_state(1, "a"):
        raise ValueError("stop")
    assert torch.equal(torch.get_rng_state(), before)


@contextmanager
def wider_numbers() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (wider_numbers(), "default dtype is torch.float64"),
        (torch.device("meta"), "default device is meta"),
        (torch.no_grad(), "gradients are off"),
        (torch.inference_mode(), "torch.inference_mode"),
        (torch.autocast("cpu", torch.bfloat16), "torch.autocast"),
    ],
)
def test_what_would_change_the_weights_is_refused(around: AbstractContextManager[object], said: str) -> None:
    check_surroundings()
    with around, pytest.raises(ModelError, match=said) as caught:
        check_surroundings()
    assert "\n" not in str(caught.value)
    check_surroundings()


def test_other_kernels_are_another_machine(compute: Compute) -> None:
    usual = kind_of_machine(compute.device)
    with torch.backends.mkldnn.flags(enabled=False):
        assert kind_of_machine(compute.device) == f"{usual}, oneDNN off"
