"""Candidates side by side, each a task of a Ray cluster: on this machine, or on many."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from spacewarps.clusters import LOCAL, Cluster, ClusterError, difference_from, reason_of_loss, this_machine
from spacewarps.search.candidate import EpochEnded, Trained, evaluate
from spacewarps.search.executors.base import Ended, Event, Executor, ExecutorError, Job, Lost
from spacewarps.search.executors.settings import RaySettings
from spacewarps.search.folds import Fold
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, kind_of_machine, set_up_again

_SECONDS_BETWEEN_BATCHES = 0.5


class RayExecutor(Executor):
    """Evaluates on a Ray cluster, which is started or joined when it is first needed.

    The stamps go into the cluster's object store once, and all workers of a node map the same copy. A lost worker or
    node costs its jobs alone. Through Ray Client, at an address that starts with ``ray://``, a job is heard of when it
    is done.

    Args:
        folds: the data; an evaluation names its fold by the number.
        compute: what the workers compute with; every node must be of this machine's kind.
        workers: how many jobs run at once; as many as the cluster has room for without it, as nodes come and go.
        address: ``local`` starts a cluster on this machine, which ends with the executor; anything else joins one.
        gpu_share: of a GPU for each job; 0 for none.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        compute: Compute,
        *,
        workers: int | None,
        address: str,
        gpu_share: float,
    ) -> None:
        super().__init__(folds)
        self._compute = compute
        self._size = workers
        self._cluster = Cluster(address, threads=compute.threads, gpu_share=gpu_share, tasks=workers)
        self._machine = this_machine(kind_of_machine(compute.device))
        self._task: Any = None
        self._shared: Any = None
        self._tickets: dict[Any, int] = {}

    @classmethod
    def from_settings(cls, folds: Sequence[Fold], compute: Compute, settings: RaySettings) -> Self:
        """Return one with ``workers`` jobs, ``auto``: as many as there is room for, at ``ray.address``."""
        return cls(
            folds,
            compute,
            workers=None if settings.workers == "auto" else settings.workers,
            address=settings.ray.address,
            gpu_share=settings.ray.gpu_share if compute.device.type == "cuda" else 0.0,
        )

    @property
    def workers(self) -> int:
        """What was asked for, or how many jobs the nodes that are there now have room for.

        Raises:
            ExecutorError: the cluster cannot be started or joined.
        """
        if self._size is not None:
            return self._size
        self._connect()
        return max(1, self._cluster.room())

    def submit(self, ticket: int, job: Job) -> None:
        """Give the job to the cluster, which starts it as soon as a node has room.

        Raises:
            ExecutorError: the cluster cannot be started or joined.
        """
        self._connect()
        self._tickets[self._task.remote(job, self._shared, self._compute, self._machine)] = ticket

    def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:
        """Yield what the tasks have said since the last call.

        Raises:
            ExecutorError: no node has room for a job, or one is of another kind than this machine.
            SpaceWarpsError: what a job raised.
        """
        if not self._tickets:
            return
        ready, _ = ray.wait(list(self._tickets), timeout=seconds)
        if not ready:
            try:
                self._cluster.check_room()
            except ClusterError as error:
                raise ExecutorError(
                    f"the Ray cluster at {self._cluster.address} cannot take a candidate: {error}; add one, or lower "
                    "`threads` or `ray.gpu_share`"
                ) from None
        for task in ready:
            ticket = self._tickets.pop(task)
            events = self._listen(task)
            if not isinstance(events[-1], Ended | Lost):
                self._tickets[task] = ticket
            yield from ((ticket, event) for event in events)

    def abandon(self) -> None:
        """Cancel the tasks that have not ended."""
        for task in self._tickets:
            # One that has just ended, or a cluster that is gone, is no reason not to go on.
            with contextlib.suppress(Exception):
                ray.cancel(task, force=True)
        self._tickets.clear()

    def close(self) -> None:
        """End all tasks, and the cluster if it was started here."""
        self._tickets.clear()
        self._shared = self._task = None
        self._cluster.close()

    def _connect(self) -> None:
        if self._cluster.is_connected:
            return
        try:
            self._cluster.connect()
            self._shared = self._cluster.put(_in_memory(self.folds))
        except ClusterError as error:
            self.close()
            if self._cluster.address == LOCAL:
                raise ExecutorError(
                    f"Ray cannot be started on this machine ({error}); set `executor` to processes"
                ) from error
            raise ExecutorError(
                f"`ray.address` is {self._cluster.address}, but no Ray cluster can be used there ({error}); "
                "start one with 'ray start', or set it to local"
            ) from error
        self._task = self._cluster.task(
            _events if self._cluster.streams else _all_events,
            num_returns="streaming" if self._cluster.streams else 1,
        )

    def _listen(self, task: Any) -> list[Event]:
        """Return what a task that is ready has to say."""
        try:
            return [ray.get(next(task))] if self._cluster.streams else [*ray.get(task), Ended()]
        except StopIteration:
            return [Ended()]
        except RayError as error:
            try:
                return [Lost(reason_of_loss(error))]
            except ClusterError as unusable:
                raise ExecutorError(str(unusable)) from None


def sum_batches(events: Iterator[Trained | EpochEnded], seconds: float) -> Iterator[Trained | EpochEnded]:
    """Yield ``events``, those of the batches within ``seconds`` as one: each costs a message between machines."""
    samples, last = 0, time.monotonic()
    for event in events:
        if isinstance(event, Trained):
            samples += event.samples
            if time.monotonic() - last < seconds:
                continue
        if samples:
            yield Trained(samples)
            samples, last = 0, time.monotonic()
        if not isinstance(event, Trained):
            yield event


def _events(job: Job, folds: Sequence[Fold], compute: Compute, machine: str) -> Iterator[Trained | EpochEnded]:
    """Evaluate a job in a worker."""
    set_up_again(compute)
    if difference := difference_from(machine, kind_of_machine(compute.device)):
        raise ExecutorError(
            f"a node of the Ray cluster may round differently than the machine of the search: {difference}; take the "
            "node out of the cluster, or search on a machine of its kind"
        )
    yield from sum_batches(evaluate(job, folds), _SECONDS_BETWEEN_BATCHES)


def _all_events(*arguments: Any) -> list[Trained | EpochEnded]:
    """Evaluate a job in a worker; Ray Client hears nothing from a task before its end."""
    return list(_events(*arguments))


def _in_memory(folds: Sequence[Fold]) -> tuple[Fold, ...]:
    """Return the folds with stamps that travel: a file that they are mapped from is on this machine only."""
    travelling: dict[int, NDArray[Any]] = {}

    def in_memory(data: Space_Galaxi) -> Space_Galaxi:
        return data.with_packed(travelling.setdefault(id(data.packed), np.asarray(data.packed)))

    return tuple(Fold(*map(in_memory, fold)) for fold in folds)
