import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from spacewarps.errors import SpaceWarpsError, SurveyError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec
from spacewarps.model.storage import pack_model
from spacewarps.search.candidate import Evaluation
from spacewarps.search.executors.base import ExecutorError
from spacewarps.search.executors.processes import ProcessesExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, History
from spacewarps.search.journal import FolderJournal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.settings import CandidateSettings, WarmStart
from spacewarps.search.strategies.beam import Beam
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute
from spacewarps.training.score import Epoch
from spacewarps.training.settings import Optimiser

Search = Callable[..., SearchResult]

MIXED = {"block_kinds": ["inception", "conv"], "k_candidates": [4, 6]}
BEAM = {"strategy": Beam(2), "epochs_per_eval": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "none": {"warm_start": WarmStart("none"), "epochs_per_eval": 1},
    "siblings": {"warm_start": WarmStart("siblings"), "k_candidates": [2, 3, 4]},
    "halving": {"halving": 2, "k_candidates": [1, 2, 3, 4, 5], "epochs_per_eval": 4},
    "mixed": MIXED,
    "block": {"trains": "block", "k_candidates": [1, 2, 3, 4, 5]},
    "beam": BEAM,
    "mixed, beam, block": {**MIXED, **BEAM, "trains": "block"},
    "mixed, siblings, block": {**MIXED, "warm_start": WarmStart("siblings"), "trains": "block"},
    "halving, block, checkpoints": {"halving": 1, "k_candidates": [1, 2, 3], "trains": "block", "checkpoints": True},
}


def bits(found: SearchResult) -> tuple[bytes, History]:
    return pack_model(found.model), found.history


def running() -> list[psutil.Process]:
    """Return the worker processes that this one has: children of the server that forks them."""
    children = psutil.Process().children()
    servers = [child for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())]
    return [worker for server in servers for worker in server.children() if worker.status() != psutil.STATUS_ZOMBIE]


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


@pytest.fixture(scope="module")
def start(
    train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute
) -> Callable[[int], ProcessesExecutor]:
    return lambda workers: ProcessesExecutor(
        [Fold(train_data, validation_data)], compute, workers=workers, accelerators=0
    )


@pytest.fixture(scope="module")
def three(start: Callable[[int], ProcessesExecutor]) -> Iterator[ProcessesExecutor]:
    """Three workers, which stay for all tests that only use them."""
    before = running()
    with start(3) as executor:
        assert running() == before
        yield executor


@pytest.mark.parametrize("variant", VARIANTS)
def test_three_workers_give_the_bits_of_this_process(search: Search, three: ProcessesExecutor, variant: str) -> None:
    assert bits(search(executor=three, **VARIANTS[variant])) == bits(search(**VARIANTS[variant]))
    assert len(running()) <= 3


def test_what_one_executor_wrote_down_another_knows(search: Search, three: ProcessesExecutor, tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path / "journal")
    first = search(executor=three, journal=journal)
    second = search(journal=journal)
    assert (first.evaluated, second.evaluated, second.found) == (4, 0, 4)
    assert bits(first) == bits(second)
    journal.close()


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("in_memory", [False, True])
def test_workers_give_the_same_bits_with_the_survey_mapped_or_in_memory(
    search: Search,
    draw_survey: Callable[..., PreparedSurvey],
    prepared: PreparedSurvey,
    compute: Compute,
    workers: int,
    in_memory: bool,
) -> None:
    survey = draw_survey() if in_memory else prepared
    train = Space_Galaxi(survey, split="train", augmentation=Augmentation())
    validation = Space_Galaxi(survey, split="validation")
    with ProcessesExecutor([Fold(train, validation)], compute, workers=workers, accelerators=0) as executor:
        for variant in VARIANTS.values():
            found = search(executor=executor, train=train, validation=validation, **variant)
            assert bits(found) == bits(search(**variant))


def test_no_room_for_stamps_in_memory_is_said_and_leaves_no_folder(
    draw_survey: Callable[..., PreparedSurvey],
    compute: Compute,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = Space_Galaxi(draw_survey(), split="train")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(SurveyError, match=f"^{tmp_path}: no room for 120 stamps, 0.0 MB .File too large;"):
            ProcessesExecutor([Fold(data, data)], compute, workers=1, accelerators=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_stamps_in_memory_are_mapped_from_a_folder_that_goes_with_the_executor(
    search: Search,
    draw_survey: Callable[..., PreparedSurvey],
    compute: Compute,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    survey = draw_survey()
    train = Space_Galaxi(survey, split="train", augmentation=Augmentation())
    validation = Space_Galaxi(survey, split="validation")
    other = Space_Galaxi(draw_survey(seed=1), split="validation")
    with ProcessesExecutor([Fold(train, other)], compute, workers=1, accelerators=0):
        assert sum(len(np.load(path)) for path in tmp_path.rglob("*.npy")) == 240
    assert not any(tmp_path.iterdir())
    with ProcessesExecutor([Fold(train, validation)], compute, workers=1, accelerators=0) as executor:
        # Both splits are of one survey, which is written once.
        assert sum(len(np.load(path)) for path in tmp_path.rglob("*.npy")) == 120
        found = search(executor=executor, train=train, validation=validation, max_layers=1)
        assert bits(found) == bits(search(max_layers=1))
    assert not any(tmp_path.rglob("*.npy"))


class Killer(SearchObserver):
    """Kills the workers that run, so often as it is told, whenever :meth:`strike` is called."""

    def __init__(self, before: list[psutil.Process], times: int) -> None:
        self.before, self.left = before, times

    def strike(self) -> None:
        workers = [worker for worker in running() if worker not in self.before]
        if self.left and workers:
            self.left -= 1
            kill_all(workers)


class BatchKiller(Killer):
    """Kills as soon as a worker has learned from a batch of a candidate, and counts the batches."""

    batches = 0

    def batch_trained(self, samples: int) -> None:  # noqa: ARG002
        self.batches += 1
        self.strike()


class EpochKiller(Killer):
    """Kills when a worker has ended an epoch."""

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002
        self.strike()


def test_a_worker_that_is_killed_costs_time_and_changes_no_bit(
    search: Search, three: ProcessesExecutor, start: Callable[[int], ProcessesExecutor], tmp_path: Path
) -> None:
    assert three.workers == 3
    options = {"epochs_per_eval": 40, "max_layers": 1, "k_candidates": [2]}
    journal, killer = FolderJournal(tmp_path / "journal"), BatchKiller(running(), times=1)
    with start(1) as executor:
        found = search(executor=executor, journal=journal, checkpoints=True, observer=killer, **options)
    assert killer.left == 0
    assert bits(found) == bits(search(**options))
    assert found.evaluated == 1
    # Each epoch that was written down before the kill counts as one batch, and is not learned again.
    assert killer.batches < 40 * 4 + 40
    journal.close()


def test_a_candidate_that_loses_three_workers_ends_the_search_in_one_line(
    search: Search, start: Callable[[int], ProcessesExecutor]
) -> None:
    before = running()
    killer = BatchKiller(before, times=1000)
    with start(1) as executor, pytest.raises(ExecutorError) as caught:
        search(executor=executor, epochs_per_eval=500, k_candidates=[2], observer=killer)
    assert str(caught.value) == (
        "3 workers in turn were lost while they trained step 1, conv k=2, fold 1 "
        "(SIGKILL, which the system sends when memory is short); if memory is short, lower `workers` or "
        "`batch_size`"
    )
    assert killer.left == 997
    assert running() == before


@pytest.mark.long
def test_a_candidate_that_comes_further_each_time_may_lose_any_number_of_workers(
    search: Search, start: Callable[[int], ProcessesExecutor], tmp_path: Path
) -> None:
    options = {"epochs_per_eval": 8, "max_layers": 1, "k_candidates": [2]}
    journal, killer = FolderJournal(tmp_path / "journal"), EpochKiller(running(), times=5)
    with start(1) as executor:
        found = search(executor=executor, journal=journal, checkpoints=True, observer=killer, **options)
    assert killer.left == 0
    assert bits(found) == bits(search(**options))
    journal.close()


class Interrupter(SearchObserver):
    """Interrupts a search at its first epoch."""

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002
        raise KeyboardInterrupt


def test_a_search_that_is_interrupted_leaves_no_worker(
    search: Search, start: Callable[[int], ProcessesExecutor]
) -> None:
    before = running()
    with pytest.raises(KeyboardInterrupt), start(2) as executor:
        search(executor=executor, epochs_per_eval=500, observer=Interrupter())
    begin = time.monotonic()
    assert running() == before
    assert time.monotonic() - begin < 1


def test_an_executor_serves_the_next_search_after_one_that_was_interrupted(
    search: Search, start: Callable[[int], ProcessesExecutor], tmp_path: Path
) -> None:
    journal, options = FolderJournal(tmp_path / "journal"), {"epochs_per_eval": 3, "optimiser": Optimiser(batch_size=8)}
    with start(2) as executor:
        with pytest.raises(KeyboardInterrupt):
            search(executor=executor, journal=journal, epochs_per_eval=500, observer=Interrupter())
        found = search(executor=executor, journal=journal, **options)
    assert bits(found) == bits(search(**options))
    journal.close()


def test_what_a_worker_raises_is_raised_here_and_the_next_search_runs(
    search: Search, start: Callable[[int], ProcessesExecutor], train_data: Space_Galaxi, compute: Compute
) -> None:
    empty = ProgressiveModel(train_data.stamp_shape, train_data.feature_names, train_data.classes)
    # More than there are addresses, so that it is refused at once.
    candidate = Candidate(1, BlockSpec(2**45), 3)
    evaluation = Evaluation(candidate, 0, pack_model(empty), "deeper", 1, CandidateSettings(), compute, until=1)
    with start(1) as executor:
        executor.submit(1, [evaluation])
        with pytest.raises(SpaceWarpsError) as caught:
            list(executor.wait(60))
        executor.abandon()
        assert bits(search(executor=executor)) == bits(search())
    assert str(caught.value) == (
        "there is not enough memory to train step 1, conv k=35184372088832, fold 1; lower `workers`, `batch_size` or "
        "`k_candidates`"
    )


def test_closing_twice_does_no_harm(start: Callable[[int], ProcessesExecutor]) -> None:
    executor = start(2)
    executor.close()
    executor.close()
