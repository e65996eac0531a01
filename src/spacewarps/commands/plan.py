"""The command ``plan``: what search and final training will cost, before they start."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import psutil

from spacewarps.errors import SurveyError
from spacewarps.model.ensemble import check_orientations
from spacewarps.progress import say
from spacewarps.search.executors.base import Event, Executor, Job
from spacewarps.search.executors.registry import make_executor
from spacewarps.search.final import FinalObserver, train_final
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate, CandidateResult, Step
from spacewarps.search.journal import Journal, ReadOnlyJournal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.rungs import ladder_of
from spacewarps.search.strategies import make_strategy
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_folds, parts_to_learn, set_up
from spacewarps.stages.searching import run_search
from spacewarps.stages.training import executor_for
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import SURVEY_FILE
from spacewarps.training.final import Part
from spacewarps.training.score import Score

# So many that one more or less says little.
_BATCHES = 12
# Of the final training. Workers start in the first of each network, so the two after it are measured.
_EPOCHS = 3
_MEGABYTE = 1_000_000
# A look takes some milliseconds of every process.
_SECONDS_BETWEEN_LOOKS = 1.0


def run(stage: Stage) -> None:
    """Say how many candidates there are at most, how many the journal knows, and the time and memory that they take.

    The time is measured: every step is done on a few batches, by the executor of the params, on trunks of the narrowest
    blocks and on trunks of the widest, as nobody knows which of them will win. Nothing is written.
    """
    if not (stage.prepared / SURVEY_FILE).exists():
        raise SurveyError(f"{stage.prepared}: no survey is prepared there yet; run `dvc repro prepare` first")
    search, folds, parts = stage.params.search, open_folds(stage, "search"), parts_to_learn(stage)
    check_orientations(stage.params.train.orientations, folds[0].train.stamp_shape)
    known = _known(stage, folds)
    with _Memory() as memory:
        measured = [_measure_search(stage, folds, widest=widest) for widest in _ways(stage, known)]
        networks = [each.found for each in measured] if known.found is None else [known.found]
        trainings = [_measure_training(stage, found, parts) for found in networks]
    steps, workers = measured[0].steps, measured[0].workers
    candidates, samples = sum(step.candidates for step in steps), sum(step.samples for step in steps)
    controls = len(steps) - 1 if search.control else 0
    beside = f" and {controls} control{'s' * (controls != 1)}" if search.control else ""
    in_folds = f" in {len(folds)} folds" if len(folds) > 1 else ""
    say(
        f"search: at most {len(steps)} steps, {candidates} candidates{beside}{in_folds}, "
        f"{samples:,} stamps to learn from (each counts once an epoch)"
    )
    say(f"  the journal knows {known.candidates} of these candidates")
    left = [_left(each.steps, known) for each in measured]
    if known.found is not None:
        say("  it knows all that the search asks for, which takes no time")
    else:
        say(
            f"  {_as_times([sum(seconds) for seconds in left])} on {workers} worker{'s' * (workers != 1)} if all steps "
            f"are tried{', less where candidates are dropped' * search.racing}: "
            f"{', '.join(_as_times(of_step) for of_step in zip(*left, strict=True))}"
        )
    say(f"final training: {stage.params.train.epochs} epochs, {_as_times(trainings)}")
    say(f"memory: about {memory.most / _MEGABYTE:,.0f} MB, all processes together")


@dataclass(frozen=True)
class _Cost:
    """What a step costs at most."""

    candidates: int
    samples: int
    seconds: float


@dataclass(frozen=True)
class _Measured:
    """A search on a few batches: what each step costs, the last network, and the number of workers."""

    steps: list[_Cost]
    found: SearchResult
    workers: int


@dataclass(frozen=True)
class _Known:
    """What the journal has: candidates up to the first step that has others, and the whole search if it has that."""

    candidates: int
    found: SearchResult | None


def _ways(stage: Stage, known: _Known) -> list[bool]:
    """Return whether trunks are of the widest blocks, for each way to measure: one if that makes no difference."""
    search = stage.params.search
    width = make_strategy(search.strategy, search).width
    one_width = all(len(ks) <= width for ks in search.candidates_by_step())
    return [False] if one_width or known.found is not None else [False, True]


def _left(steps: Sequence[_Cost], known: _Known) -> list[float]:
    """Return the seconds of each step without the candidates that the journal knows."""
    left, seconds = known.candidates, []
    for step in steps:
        new = max(0, step.candidates - left)
        left = max(0, left - step.candidates)
        seconds.append(step.seconds * new / step.candidates)
    return seconds


def _known(stage: Stage, folds: Sequence[Fold]) -> _Known:
    watch, found = _Watch(), None
    with contextlib.suppress(_UnknownError):
        found = run_search(
            stage,
            stage.params.search,
            folds,
            seed=stage.params.seed,
            executor=_Nobody(folds),
            # A search that is at work may hold claims, which nobody waits for here.
            journal=ReadOnlyJournal(stage.journal),
            observer=watch,
        )
    return _Known(watch.finished, found)


def _measure_search(stage: Stage, folds: Sequence[Fold], *, widest: bool) -> _Measured:
    search = stage.params.search
    # Every fold has its part, so that as many trainings wait for the workers as will.
    small = [Fold(*(_part(data, _share(stage, fold.train)) for data in fold)) for fold in folds]
    width = make_strategy(search.strategy, search).width
    lists = search.candidates_by_step()
    costs = []
    compute = set_up(stage, search.threads)
    with make_executor(search.executor, small, compute, search) as executor:
        # The first time, workers start.
        for number in (1, *range(1, search.max_layers + 1)):
            watch = _Watch()
            short = replace(
                search,
                max_layers=number,
                k_candidates=(*(_outer(ks, width, widest) for ks in lists[: number - 1]), lists[number - 1]),
                epochs_per_eval=1,
                halving=0,
                racing=False,
                # Which network it is depends on what joins; at most it takes as long as a candidate.
                control=False,
                patience=number,
            )
            found = run_search(
                stage, short, small, seed=stage.params.seed, executor=executor, journal=Journal(), observer=watch
            )
            control = search.control and number > 1
            samples = ladder_of(search, len(folds)).samples(folds, watch.candidates, control=control)
            costs.append(_Cost(watch.candidates, samples, watch.seconds * samples / watch.samples))
        return _Measured(costs[1:], found, executor.workers)


def _measure_training(stage: Stage, found: SearchResult, parts: Sequence[Part]) -> float:
    """Return the seconds of the final training of what was ``found``, with its answers on what is held out."""
    train, compute = stage.params.train, set_up(stage, stage.params.compute.threads)
    share = _share(stage, parts[0].train)
    small = [part._replace(train=_part(part.train, share)) for part in parts]
    small = [part if part.held_out is None else part._replace(held_out=_part(part.held_out, share)) for part in small]
    watch = _EpochWatch()
    with executor_for(stage, small, compute) as executor:
        train_final(
            found.model,
            small,
            replace(train, epochs=_EPOCHS),
            optimiser=stage.params.optimiser,
            compute=compute,
            seed=stage.params.seed,
            executor=executor,
            observer=watch,
        )
        answering = time.perf_counter() - watch.last
        in_turn = -(-len(parts) // executor.workers) if executor else 1
    return (in_turn * train.epochs * statistics.median(watch.seconds) + answering) / share


def _share(stage: Stage, train: Space_Galaxi) -> float:
    return min(1.0, _BATCHES * stage.params.optimiser.batch_size / len(train))


def _part(data: Space_Galaxi, share: float) -> Space_Galaxi:
    """Return ``share`` of the samples, evenly from all."""
    chosen = np.zeros(len(data), dtype=bool)
    chosen[np.linspace(0, len(data) - 1, max(1, round(share * len(data)))).astype(int)] = True
    return data.subset(chosen, data.augmentation)


def _outer(ks: tuple[int, ...], count: int, widest: bool) -> tuple[int, ...]:
    """Return the ``count`` lowest or highest of ``ks``, as many trunks as grow."""
    ordered = sorted(ks, reverse=widest)
    return tuple(ordered[:count])


def _as_times(seconds: Sequence[float]) -> str:
    """Return a range of times, or one time where both ends read alike."""
    low, high = _as_time(min(seconds)), _as_time(max(seconds))
    return low if low == high else f"{low} to {high}"


def _as_time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _Watch(SearchObserver):
    """Counts the candidates that have their score, and measures the last step."""

    def __init__(self) -> None:
        self.finished = self.candidates = self.samples = 0
        self.seconds = self._start = 0.0

    def step_started(self, step: int, candidates: list[Candidate], samples: int) -> None:  # noqa: ARG002
        self.candidates, self.samples, self._start = len(candidates), samples, time.perf_counter()

    def candidate_finished(self, result: CandidateResult) -> None:  # noqa: ARG002
        self.finished += 1

    def step_finished(self, step: Step) -> None:  # noqa: ARG002
        self.seconds = time.perf_counter() - self._start


class _Memory:
    """Watches how much memory this process and its children take together, pages that they share counted once."""

    def __init__(self) -> None:
        #: The most that there was, in bytes.
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while True:
            total = 0
            # Of each page its share, where several have it.
            for process in (own, *own.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.most = max(self.most, total)
            if self._ended.wait(_SECONDS_BETWEEN_LOOKS):
                return


class _EpochWatch(FinalObserver):
    """Measures the epochs of each network but the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = 0.0
        self._ends: dict[int, float] = {}

    def epoch_finished(self, network: int, epoch: int, train_loss: float, score: Score | None) -> None:  # noqa: ARG002
        self.last = time.perf_counter()
        if network in self._ends:
            self.seconds.append(self.last - self._ends[network])
        self._ends[network] = self.last


class _UnknownError(Exception):
    """The journal does not know what comes next."""


class _Nobody(Executor):
    """Takes every job, and does none."""

    @classmethod
    def from_settings(cls, folds: Sequence[Fold], compute: Any, settings: Any) -> Self:  # noqa: ARG003
        return cls(folds)

    @property
    def workers(self) -> int:
        # All that a step has is looked up before the first is waited for.
        return 1_000_000

    def submit(self, ticket: int, job: Job) -> None:
        pass

    def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:  # noqa: ARG002
        raise _UnknownError

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass
