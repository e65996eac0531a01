"""The examples of ``docs/extending.md`` run, and do in a search or a survey what the page says."""

import re
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
from spacewarps.survey.images import StampError
from spacewarps.survey.readers import READERS, reader_of
from spacewarps.survey.settings import StampSettings
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
    file = tmp_path / "a.F32"
    file.write_bytes(floats(np.full((2, 2), 7.0)))
    assert reader_of(file, StampSettings()).decode(file.read_bytes(), 3).tolist() == np.full((3, 2, 2), 7.0).tolist()


def floats(pixels: Any) -> bytes:
    return np.asarray(pixels, "<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no floats", "stamp that is not a square of float32"),
        (floats(np.ones((2, 3))), "stamp that is not a square of float32"),
        (bytes(4 * 2049**2), "stamp of absurd size"),
        (floats(np.full((2, 2), np.inf)), "stamp of which more than 50% is masked"),
        (floats(np.full((2, 2), 1e30)), "stamp with pixels beyond 1e+15"),
    ],
    ids=range(5),
)
def test_a_hostile_file_is_a_fault_of_its_stamp_for_the_reader_of_the_example(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    example("A stamp format")
    (tmp_path / "a.f32").write_bytes(content)
    (tmp_path / "b.f32").write_bytes(floats(np.ones((2, 2))))
    files, how = [(tmp_path / "a.f32",), (tmp_path / "b.f32",)], StampSettings()
    one, other = inspect_stamps(files, how, lambda _done: None)
    assert isinstance(other, Inspected)
    shape = one.shape if isinstance(one, Inspected) else other.shape
    fault, _ = pack_stamps(files, shape, how, tmp_path / "stamps.npy", lambda _done: None)
    assert str(fault if isinstance(one, Inspected) else one).startswith(reason)
    assert isinstance(fault, StampError)
