"""Candidates side by side, each in a process of its own on this machine."""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spacewarps.errors import SpaceWarpsError
from spacewarps.interrupts import children_spared
from spacewarps.resources import processes_that_fit
from spacewarps.search.candidate import evaluate
from spacewarps.search.executors.base import Ended, Event, Executor, ExecutorError, Job, Lost
from spacewarps.search.executors.settings import ProcessesSettings
from spacewarps.search.folds import Fold
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.packing import packed_rows
from spacewarps.survey.prepared import load_stamps
from spacewarps.training.compute import Compute, kind_of_machine, set_up_again

# A candidate alone leaves most of a device idle, which waits for the processor to say what comes next. Eight at once
# were nearly seven times as fast on a device of the largest kind; a smaller one has less memory.
_MOST_ON_A_DEVICE = 8


@dataclass
class _Worker:
    process: ForkServerProcess
    connection: Connection
    #: How much all workers had said on their standard error when this one started.
    said_before: int
    ticket: int | None = None


class ProcessesExecutor(Executor):
    """Evaluates in processes, which start with the first job.

    Every worker maps the same file of stamps; stamps that are in memory only are written to a temporary one. Where
    there are accelerators, each worker sees one of them. A worker that dies costs its job alone, and the next job
    starts another.

    Args:
        folds: the data; an evaluation names its fold by the number.
        compute: what the workers compute with.
        workers: how many.
        accelerators: how many devices they share.
    """

    def __init__(self, folds: Sequence[Fold], compute: Compute, *, workers: int, accelerators: int) -> None:
        super().__init__(folds)
        self._compute = compute
        self._machine = kind_of_machine(compute.device)
        self._size = workers
        self._accelerators = accelerators
        with ExitStack() as closing:
            # As bytes, since multiprocessing's own way with tensors puts each into shared memory, which a container may
            # have little or nothing of.
            self._packed = pickle.dumps(_mapped(self.folds, closing))
            self._closing = closing.pop_all()
        # A server that has imported torch once forks each worker in a moment.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([f"{__package__}.preload"])
        self._workers: list[_Worker | None] = [None] * workers

    @classmethod
    def from_settings(cls, folds: Sequence[Fold], compute: Compute, settings: ProcessesSettings) -> Self:
        """Return one with ``workers`` processes; ``auto``: as many as cores allow, and a few for each accelerator."""
        accelerators = torch.cuda.device_count() if compute.device.type == "cuda" else 0
        fitting = processes_that_fit(compute.threads)
        if accelerators:
            fitting = max(accelerators, min(fitting, _MOST_ON_A_DEVICE * accelerators))
        workers = fitting if settings.workers == "auto" else settings.workers
        return cls(folds, compute, workers=workers, accelerators=accelerators)

    @property
    def workers(self) -> int:
        """One job for each process."""
        return self._size

    def submit(self, ticket: int, job: Job) -> None:
        """Give the job to an idle worker; start one if there is none."""
        position = next(
            position for position, worker in enumerate(self._workers) if worker is None or worker.ticket is None
        )
        worker = self._workers[position] or self._start(position)
        self._workers[position] = worker
        worker.ticket = ticket
        # A worker that has died meanwhile is found when it is waited for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(job)

    def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:
        """Yield what the workers have said since the last call."""
        busy = {w.connection: (position, w) for position, w in enumerate(self._workers) if w and w.ticket is not None}
        for ready in wait(list(busy), seconds):
            position, worker = busy[ready]  # type: ignore[index]
            ticket = worker.ticket
            assert ticket is not None
            try:
                said = worker.connection.recv()
            except (EOFError, OSError):
                self._workers[position] = None
                worker.process.join()
                worker.connection.close()
                yield ticket, Lost(_reason(worker.process.exitcode, _last_words(worker.said_before)))
                continue
            if isinstance(said, BaseException):
                raise said
            if isinstance(said, Ended):
                worker.ticket = None
            yield ticket, said

    def abandon(self) -> None:
        """Kill the workers that have a job."""
        self._kill([position for position, worker in enumerate(self._workers) if worker and worker.ticket is not None])

    def close(self) -> None:
        """Kill all workers."""
        self._kill(range(self._size))
        self._closing.close()

    def _kill(self, positions: Sequence[int]) -> None:
        killed = [worker for position in positions if (worker := self._workers[position])]
        for position in positions:
            self._workers[position] = None
        for worker in killed:
            worker.process.kill()
        for worker in killed:
            worker.process.join()
            worker.connection.close()

    def _start(self, position: int) -> _Worker:
        device = position % self._accelerators if self._accelerators else None
        said_before = os.fstat(_errors().fileno()).st_size
        try:
            _start_server()
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_work,
                args=(theirs, self._packed, self._compute, device, self._machine),
                name=f"worker {position + 1}",
                daemon=True,
            )
            process.start()
        except (EOFError, OSError) as error:
            # An EOFError has no words: the server is gone, which may have had some.
            why = _last_words(said_before) or str(error) or "its server ended"
            raise ExecutorError(
                f"worker {position + 1} cannot be started ({why}); lower `workers`, or set `executor` to inline"
            ) from None
        # This process must not hold the worker's end, or it would never hear that the worker is gone.
        theirs.close()
        return _Worker(process, ours, said_before)


@functools.cache
def _errors() -> BinaryIO:
    """Return the file for what the server and the workers print as errors, one as there is one server."""
    # Appended to, so that they do not write over each other.
    return cast(BinaryIO, tempfile.TemporaryFile("a+b", prefix="spacewarps-"))


def _last_words(said_before: int) -> str:
    """Return the last line that was printed as an error after the first ``said_before`` bytes; mostly none."""
    file = _errors().fileno()
    size = os.fstat(file).st_size
    lines = os.pread(file, 2000, max(said_before, size - 2000)).decode(errors="replace").split("\n")
    return next((" ".join(line.split())[:200] for line in reversed(lines) if line.strip()), "")


def _start_server() -> None:
    """Start the server that forks the workers, if it does not run.

    Ctrl-C passes it by, and what it or a worker prints as an error is kept for the reason why one is lost: libraries in
    C++ say only there why they end a process.
    """
    # First, since it lets Ctrl-C through again when it has started.
    resource_tracker.ensure_running()
    with children_spared():
        own = os.dup(2)
        try:
            os.dup2(_errors().fileno(), 2)
            forkserver.ensure_running()
        finally:
            os.dup2(own, 2)
            os.close(own)


def _work(connection: Connection, packed: bytes, compute: Compute, device: int | None, machine: str) -> None:
    """Evaluate jobs as they come, until there is nobody left who sends any, or one fails."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible_device(os.environ.get("CUDA_VISIBLE_DEVICES"), device)
    try:
        set_up_again(compute)
        here = kind_of_machine(compute.device)
        if here != machine:
            raise ExecutorError(
                f"a worker computes on {here}, the search on {machine}, and they may round differently; "
                "leave only devices of one kind in CUDA_VISIBLE_DEVICES"
            )
        folds = pickle.loads(packed)
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            for event in evaluate(job, folds):
                connection.send(event)
            connection.send(Ended())
    except SpaceWarpsError as error:
        connection.send(error)
    except Exception:
        # The traceback itself cannot be sent.
        connection.send(RuntimeError(f"in a worker: {traceback.format_exc()}"))


def _visible_device(visible: str | None, device: int) -> str:
    """Return the name of the ``device``-th of the accelerators that this process may see."""
    return visible.split(",")[device] if visible else str(device)


def _end_with_parent() -> None:
    """End this process when its parent does, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _mapped(folds: Sequence[Fold], closing: ExitStack) -> tuple[Fold, ...]:
    """Return the folds with stamps that processes can map; those that were in memory go with ``closing``."""
    mapped: dict[int, NDArray[Any]] = {}

    def map_stamps(data: Space_Galaxi) -> Space_Galaxi:
        stamps = data.packed
        if isinstance(stamps, np.memmap):
            return data
        if id(stamps) not in mapped:
            file = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="spacewarps-")), "stamps.npy")
            _write(stamps, file)
            mapped[id(stamps)] = load_stamps(file)
        return data.with_packed(mapped[id(stamps)])

    return tuple(Fold(*map(map_stamps, fold)) for fold in folds)


def _write(stamps: NDArray[Any], file: Path) -> None:
    count = len(stamps)
    with packed_rows(file, dtype=stamps.dtype, shape=stamps.shape[1:], most=count, what=f"{count} stamps") as append:
        for stamp in stamps:
            append(stamp)


def _reason(exit_code: int | None, last_words: str) -> str:
    """Return why a worker was lost."""
    code = exit_code or 0
    ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    if ended == "SIGKILL":
        return "SIGKILL, which the system sends when memory is short"
    return f"{ended}: {last_words}" if last_words else ended
