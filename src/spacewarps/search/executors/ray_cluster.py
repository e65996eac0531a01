"""Candidates side by side, each a task of a Ray cluster: on this machine, or on many."""

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray.exceptions import RayError, RayTaskError

import spacewarps
from spacewarps.errors import SpaceWarpsError
from spacewarps.portability import pins
from spacewarps.resources import available_cores
from spacewarps.search.candidate import EpochEnded, Trained, evaluate
from spacewarps.search.executors.base import Ended, Event, Executor, ExecutorError, Job, Lost
from spacewarps.search.executors.settings import RaySettings
from spacewarps.search.folds import Fold
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, kind_of_machine, set_up_again

_LOCAL = "local"
_SECONDS_BETWEEN_BATCHES = 0.5
_SECONDS_TO_ANSWER = 5.0
# A node that was lost may be replaced; one that never was there will not come.
_SECONDS_WITHOUT_NODE = 300.0


class RayExecutor(Executor):
    """Evaluates on a Ray cluster, which is started or joined when it is first needed.

    Nodes need the project's dependencies, not the project: its code goes there with the first job. The stamps go into
    the cluster's object store once, and all workers of a node map the same copy. A lost worker or node costs its jobs
    alone. Through Ray Client, at an address that starts with ``ray://``, a job is heard of when it is done.

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
        self._address = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
        self._gpu_share = gpu_share
        self._streams = not self._address.startswith("ray://")
        self._machine = _machine(compute.device)
        self._connected = False
        self._task: Any = None
        self._shared: Any = None
        self._tickets: dict[Any, int] = {}
        self._had_room = -math.inf

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
        return max(1, self._room())

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
            self._check_room()
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
        if self._connected:
            self._connected = False
            # The cluster ends what a driver leaves running.
            ray.shutdown()
            ray_worker._worker_logs_enabled = True

    def _connect(self) -> None:
        if self._connected:
            return
        if ray.is_initialized():
            raise ExecutorError("this process uses a Ray cluster already; leave it with ray.shutdown()")
        options: dict[str, Any] = {
            "address": self._address,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "runtime_env": {
                "py_modules": [str(Path(str(spacewarps.__file__)).parent)],
                "env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), **pins()},
            },
        }
        threads = self._compute.threads
        self._connected = True
        # Neither what its processes print nor its news of lost workers, which would break the progress bar.
        ray_worker._worker_logs_enabled = False
        try:
            if self._address == _LOCAL:
                workers = self._size or max(1, available_cores() // threads)
                options |= {"include_dashboard": False, "num_cpus": threads * workers}
                os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
                with _own_signals(), _loopback_only():
                    ray.init(**options)
            else:
                _check_reachable(self._address)
                with _own_signals():
                    ray.init(**options)
            self._shared = ray.put(_in_memory(self.folds))
        # Whatever kind of error Ray has for it.
        except Exception as error:
            self.close()
            if self._address == _LOCAL:
                raise ExecutorError(
                    f"Ray cannot be started on this machine ({_line(error)}); set `executor` to processes"
                ) from error
            raise ExecutorError(
                f"`ray.address` is {self._address}, but no Ray cluster can be used there ({_line(error)}); "
                "start one with 'ray start', or set it to local"
            ) from error
        # What is lost is not tried again by Ray: the search knows where it had come to.
        self._task = ray.remote(_events if self._streams else _all_events).options(
            num_cpus=threads,
            num_gpus=self._gpu_share,
            num_returns="streaming" if self._streams else 1,
            max_retries=0,
        )

    def _listen(self, task: Any) -> list[Event]:
        """Return what a task that is ready has to say."""
        try:
            return [ray.get(next(task))] if self._streams else [*ray.get(task), Ended()]
        except StopIteration:
            return [Ended()]
        except RayTaskError as error:
            if isinstance(error.cause, RayError):
                return [Lost(_line(error.cause))]
            if isinstance(error.cause, SpaceWarpsError):
                raise error.cause from None
            if "failed to import on the worker" in str(error.cause):
                missing = str(error.cause).strip().splitlines()[-1]
                raise ExecutorError(
                    f"a node of the Ray cluster cannot run this project ({missing}); install its dependencies there"
                ) from None
            raise RuntimeError(f"in a Ray task: {error}") from None
        except RayError as error:
            return [Lost(_line(error))]

    def _room(self) -> int:
        return room(ray.nodes(), self._compute.threads, self._gpu_share)

    def _check_room(self) -> None:
        now = time.monotonic()
        if self._room():
            self._had_room = now
        elif now - self._had_room > _SECONDS_WITHOUT_NODE:
            needed = f"{self._compute.threads} CPUs" + (f" and {self._gpu_share} of a GPU" if self._gpu_share else "")
            raise ExecutorError(
                f"no node of the Ray cluster at {self._address} has the {needed} that a candidate needs; "
                "add one, or lower `threads` or `ray.gpu_share`"
            )


def room(nodes: list[dict[str, Any]], threads: int, gpu_share: float) -> int:
    """Return how many jobs fit on ``nodes`` at once.

    Args:
        nodes: as Ray describes them.
        threads: how many CPUs a job takes.
        gpu_share: how much of one GPU it takes.
    """
    fitting = 0
    for resources in (node["Resources"] for node in nodes if node["Alive"]):
        jobs = int(resources.get("CPU", 0)) // threads
        if gpu_share:
            # A share of a third is no exact number.
            jobs = min(jobs, int(resources.get("GPU", 0)) * int(1 / gpu_share + 1e-3))
        fitting += jobs
    return fitting


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
    here = _machine(compute.device)
    if here != machine:
        raise ExecutorError(
            f"a node of the Ray cluster, {socket.gethostname()}, may round differently than the machine of the search: "
            f"it is {here}, the other {machine}; take the node out of the cluster, or search on a machine of its kind"
        )
    yield from sum_batches(evaluate(job, folds), _SECONDS_BETWEEN_BATCHES)


def _all_events(*arguments: Any) -> list[Trained | EpochEnded]:
    """Evaluate a job in a worker; Ray Client hears nothing from a task before its end."""
    return list(_events(*arguments))


def _machine(device: torch.device) -> str:
    """Return what decides the bits beside the job: what tells machines apart, and the libraries that compute."""
    return f"{kind_of_machine(device)}, torch {torch.__version__}, NumPy {np.__version__}"


def _in_memory(folds: Sequence[Fold]) -> tuple[Fold, ...]:
    """Return the folds with stamps that travel: a file that they are mapped from is on this machine only."""
    travelling: dict[int, NDArray[Any]] = {}

    def in_memory(data: Space_Galaxi) -> Space_Galaxi:
        return data.with_packed(travelling.setdefault(id(data.packed), np.asarray(data.packed)))

    return tuple(Fold(*map(in_memory, fold)) for fold in folds)


def _check_reachable(address: str) -> None:
    """Connect to the address and leave again; Ray would try for minutes, and say so on the terminal.

    Raises:
        OSError: nobody answers there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put the handler of SIGTERM back, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        # What Ray's handler made of the signal.
        signal.signal(signal.SIGTERM, handler)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let Ray listen on this machine alone, and not care when the machine changes networks.

    Its own switch for this, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, is read once on import, and then rules out joining.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _line(error: Exception) -> str:
    """Return the first sentence of a message that may go on with hints for those who know Ray."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    # A first line that only announces a traceback says nothing; its last one does.
    line = lines[-1] if lines[0].endswith(":") else lines[0]
    return line.split(". ")[0].rstrip(".")
