"""What every executor must do."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from spacewarps.errors import ModelError
from spacewarps.search.candidate import EpochEnded, Trained
from spacewarps.search.executors.base import Ended, Event, Executor
from spacewarps.search.folds import Fold
from spacewarps.search.settings import SearchSettings
from spacewarps.testing.data import bits, small_evaluation, small_folds, small_search

_SECONDS = 240.0


class ExecutorConformance(ABC):
    """Inherited by the tests of an executor, which say how one is made."""

    @abstractmethod
    def make(self, folds: Sequence[Fold]) -> Executor:
        """Return an executor for ``folds``, which computes on one thread in float32."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        """An executor for one small fold."""
        with self.make(small_folds()) as executor:
            yield executor

    @pytest.mark.parametrize(
        ("folds", "changes"),
        [(1, {}), (2, {"trains": "block", "control": True}), (3, {"decides": "loss", "racing": True, "patience": 2})],
        ids=["all", "block", "race"],
    )
    def test_a_search_has_the_bits_that_it_has_in_this_process(self, folds: int, changes: dict[str, Any]) -> None:
        """Whatever is trained, in however many folds, and whoever is dropped on the way."""
        data = small_folds(folds)
        settings = SearchSettings(max_layers=2, k_candidates=(2, 3), epochs_per_eval=2, **changes)
        with self.make(data) as executor:
            assert bits(small_search(data, settings, executor=executor)) == bits(small_search(data, settings))

    def test_a_job_says_every_epoch_and_its_end_under_its_ticket(self, executor: Executor) -> None:
        """The samples that were learned from, an event for each epoch, the last with its checkpoint, and the end."""
        assert executor.workers >= 1
        executor.submit(7, [small_evaluation(epochs=2)])
        heard = _listen(executor)
        assert {ticket for ticket, _ in heard} == {7}
        events = [event for _, event in heard]
        assert sum(event.samples for event in events if isinstance(event, Trained)) == 2 * 24
        epochs = [event for event in events if isinstance(event, EpochEnded)]
        assert [event.epoch.epoch for event in epochs] == [1, 2]
        assert epochs[0].checkpoint is None
        assert epochs[1].checkpoint is not None
        assert isinstance(events[-1], Ended)

    def test_what_a_job_raises_is_raised_here_and_the_next_job_runs(self, executor: Executor) -> None:
        """The project's own errors arrive as what they are, in one line."""
        executor.submit(1, [small_evaluation(source=b"")])
        with pytest.raises(ModelError) as caught:
            _listen(executor)
        assert "\n" not in str(caught.value)
        executor.abandon()
        executor.submit(2, [small_evaluation()])
        assert {ticket for ticket, _ in _listen(executor)} == {2}

    def test_of_what_was_abandoned_nothing_more_is_heard(self, executor: Executor) -> None:
        """And others can be submitted."""
        executor.submit(1, [small_evaluation(epochs=1000)])
        executor.abandon()
        executor.submit(2, [replace(small_evaluation(), checkpoints=True)])
        heard = _listen(executor)
        assert {ticket for ticket, _ in heard} == {2}
        assert all(event.checkpoint for _, event in heard if isinstance(event, EpochEnded))

    def test_closing_twice_does_no_harm(self, executor: Executor) -> None:
        """As leaving the ``with`` block closes it again."""
        executor.close()
        executor.close()


def _listen(executor: Executor) -> list[tuple[int, Event]]:
    """Return what the executor says until a job has ended."""
    heard: list[tuple[int, Event]] = []
    while not heard or not isinstance(heard[-1][1], Ended):
        before = len(heard)
        heard += executor.wait(_SECONDS)
        assert len(heard) > before, f"nothing was heard for {_SECONDS} s"
    return heard
