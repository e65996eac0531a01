import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacewarps.seeds import derive_seed, numpy_generator, torch_generator

NAMES = st.lists(st.integers() | st.text(st.characters(min_codepoint=32)), max_size=4)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ((0,), 4_761_921_975_702_974_394),
        ((1, "train"), 4_808_920_261_393_610_194),
        ((1, "candidate", 2, "conv", 16), 9_047_660_503_460_064_561),
    ],
)
def test_seeds_never_change(arguments: tuple[int, ...], value: int) -> None:
    assert derive_seed(*arguments) == value


@given(st.integers(0, 2**63 - 1), NAMES)
def test_a_seed_has_63_bits(seed: int, names: list[str | int]) -> None:
    assert 0 <= derive_seed(seed, *names) < 2**63


@given(st.integers(0, 100), NAMES, st.integers(0, 100), NAMES)
def test_other_names_or_another_seed_give_another_seed(
    seed: int, names: list[str | int], other_seed: int, other_names: list[str | int]
) -> None:
    same = (seed, names) == (other_seed, other_names)
    assert (derive_seed(seed, *names) == derive_seed(other_seed, *other_names)) == same


def test_a_name_is_not_the_sum_of_its_parts() -> None:
    assert len({derive_seed(1, "a", "b"), derive_seed(1, "ab"), derive_seed(1, "b", "a"), derive_seed(1, "a,b")}) == 4


def test_a_number_is_not_its_text() -> None:
    assert derive_seed(1, 1) != derive_seed(1, "1")
    assert derive_seed(1, 1) != derive_seed(11)


def test_generators_repeat_and_do_not_touch_each_other() -> None:
    first = numpy_generator(3, "a").normal(size=4)
    numpy_generator(3, "b").normal(size=100)
    assert np.array_equal(numpy_generator(3, "a").normal(size=4), first)
    drawn = torch.randn(4, generator=torch_generator(3, "a"))
    torch.randn(100, generator=torch_generator(3, "b"))
    assert torch.equal(torch.randn(4, generator=torch_generator(3, "a")), drawn)
    assert not torch.equal(torch.randn(4, generator=torch_generator(4, "a")), drawn)


def test_seeds_need_no_torch() -> None:
    script = "import sys, spacewarps.seeds; spacewarps.seeds.numpy_generator(1, 'a'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
