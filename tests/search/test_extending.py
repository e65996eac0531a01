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
from spacewarps.survey.readers import READERS, reader_of

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
