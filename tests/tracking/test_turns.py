import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from spacewarps.processes import name_of
from spacewarps.tracking.registry import Registry
from spacewarps.tracking.turns import turn
from tests.processes import of_process
from tests.tracking.runs import experiment_of


@pytest.fixture
def registry(tracked: Path) -> Registry:
    registry = Registry(*experiment_of(tracked), "space-warps")
    registry.open()
    return registry


def test_turns_are_taken_one_at_a_time_and_none_is_left(
    registry: Registry, tracked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside: list[int] = []
    most: list[int] = []

    def take(number: int) -> None:
        with turn(Registry(*experiment_of(tracked), registry.name)):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.3)
            inside.remove(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most == [1] * 4
    assert registry.tags() == {}
    assert "another promotion of space-warps is under way; this one comes after it\n" in capsys.readouterr().out


def test_who_asked_first_goes_first(registry: Registry) -> None:
    order: list[str] = []

    def take() -> None:
        with turn(registry):
            order.append("second")

    with turn(registry):
        second = threading.Thread(target=take)
        second.start()
        time.sleep(1)
        order.append("first")
    second.join(120)
    assert order == ["first", "second"]


def test_the_turn_of_a_process_that_was_killed_keeps_nobody_out(registry: Registry) -> None:
    registry.set_tag(f"spacewarps.promoting.{time.time_ns():020d}-dead", of_process(os.getpid(), 1))
    # Nobody here knows of a process on another machine; after an hour it is taken to have ended.
    registry.set_tag(f"spacewarps.promoting.{time.time_ns() - 3700 * 10**9:020d}-away", "machine start 1 1.0")
    with turn(registry):
        assert len(registry.tags()) == 1
    assert registry.tags() == {}


def test_a_living_process_of_this_machine_keeps_its_turn_for_as_long_as_it_takes(registry: Registry) -> None:
    tag = f"spacewarps.promoting.{time.time_ns() - 3700 * 10**9:020d}-here"
    registry.set_tag(tag, name_of(psutil.Process()))
    order: list[str] = []

    def take() -> None:
        with turn(registry):
            order.append("second")

    second = threading.Thread(target=take)
    second.start()
    time.sleep(1)
    order.append("first")
    registry.delete_tag(tag)
    second.join(120)
    assert order == ["first", "second"]


def test_an_error_inside_ends_the_turn(registry: Registry) -> None:
    with pytest.raises(ValueError, match="inside"), turn(registry):
        raise ValueError("inside")
    assert registry.tags() == {}
