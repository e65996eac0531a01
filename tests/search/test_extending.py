"""The examples of ``docs/extending.md`` run, and do in a search or a survey what the page says."""

import io
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacewarps.model.blocks import BLOCKS
from spacewarps.model.settings import BLOCK_KINDS
from spacewarps.model.storage import pack_model
from spacewarps.search.folds import Fold
from spacewarps.search.progressive import SearchResult
from spacewarps.search.strategies import STRATEGIES
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.readers import READERS, reader_of
from spacewarps.survey.stamps import Inspected, inspect_stamps, pack_stamps

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
Search = Callable[..., SearchResult]


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Put the registries back as they were."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (registry, dict(registry)) for registry in (BLOCKS, BLOCK_KINDS, STRATEGIES, READERS)
    ]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def example(title: str) -> dict[str, Any]:
    """Run the example below the heading ``title``, and return its names."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    code = re.search(r"```python\n(.*?)```", section[1], re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code[1], f"docs/extending.md, {title}", "exec"), names)
    return names


def test_a_setting_refuses_what_is_out_of_its_range() -> None:
    example("A setting")


def test_a_kind_of_block_is_searched_and_widened_like_any_other(search: Search) -> None:
    example("A kind of block")
    result = search(block_kinds=["dilated"], max_layers=1)
    assert [block.candidate.block.kind for block in result.history.blocks] == ["dilated"]


def test_a_strategy_chooses_what_a_step_tries(search: Search) -> None:
    strategy = example("A strategy")["RandomFew"](tries=1)
    found = search(strategy=strategy)
    assert [len(step.candidates) for step in found.history.steps] == [1] * len(found.history.steps)
    assert pack_model(search(strategy=strategy).model) == pack_model(found.model)


def test_an_executor_gives_the_same_bits(
    search: Search,
    train_data: Space_Galaxi,
    validation_data: Space_Galaxi,
) -> None:
    with example("An executor")["ThreadExecutor"]([Fold(train_data, validation_data)]) as executor:
        assert pack_model(search(executor=executor).model) == pack_model(search().model)


def test_a_reader_takes_files_of_its_suffix(tmp_path: Path) -> None:
    example("A stamp format")
    file = tmp_path / "a.NPY"
    np.save(file.open("wb"), np.full((3, 2), 7.0))
    assert reader_of(file).decode(file.read_bytes(), 3).tolist() == np.full((3, 3, 2), 7.0).tolist()


def npy(pixels: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def npy_header(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" + bytes(60), "damaged stamp"),
        (npy_header("{'descr': (((, "), "damaged stamp"),
        (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 500000), }"), "stamp that is not one"),
        (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (2000, 2000), }"), "damaged stamp"),
        (npy(np.full((3, 2), 1e300)), "stamp with pixels that are not finite"),
        (npy(np.zeros((0, 5))), "stamp of absurd size"),
        (npy(np.zeros((2, 3, 4))), "stamp that is not one image of numbers"),
        (npy(np.full((3, 2), "text")), "stamp that is not one image of numbers"),
        (npy(np.full((3, 2), {})), "stamp that is not one image of numbers"),
        (npy(np.ones((3, 2)))[:-8], "damaged stamp"),
    ],
    ids=range(10),
)
def test_a_hostile_file_is_a_fault_of_its_stamp_for_the_reader_of_the_example(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    example("A stamp format")
    (tmp_path / "a.npy").write_bytes(content)
    (tmp_path / "b.npy").write_bytes(npy(np.ones((3, 2))))
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    one, other = inspect_stamps(files, lambda _done: None)
    assert isinstance(other, Inspected)
    shape = one.shape if isinstance(one, Inspected) else other.shape
    fault, _ = pack_stamps(files, shape, tmp_path / "stamps.npy", lambda _done: None)
    assert str(fault if isinstance(one, Inspected) else one).startswith(reason)
    assert fault is not None
