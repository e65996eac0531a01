"""A Ray cluster, started on this machine or joined, for tasks of any kind: candidates of a search, parts of a survey.

Nodes need the project's dependencies, not the project: its code goes there with the first task.
"""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray.exceptions import RayError, RayTaskError

import spacewarps
from spacewarps.errors import SpaceWarpsError
from spacewarps.portability import pins
from spacewarps.resources import available_cores

LOCAL = "local"
_SECONDS_TO_ANSWER = 5.0
# One that never was there will not come.
_SECONDS_WITHOUT_NODE = 300.0


class ClusterError(SpaceWarpsError):
    """A cluster cannot be used; the message is the reason alone."""


class Cluster:
    """A Ray cluster, which is started or joined when it is told to, and ended or left.

    Args:
        address: ``local`` starts one on this machine, which ends with this process; ``auto`` joins the one that
            ``RAY_ADDRESS`` or the machine names; anything else is the address of one.
        threads: how many CPUs each task takes.
        gpu_share: of a GPU for each task; 0 for none.
        tasks: how many tasks at once a cluster on this machine has room for; as many as the cores allow without it.
    """

    def __init__(self, address: str, *, threads: int, gpu_share: float = 0.0, tasks: int | None = None) -> None:
        self.address = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
        #: Whether what a task yields is heard of before its end, which it is not through Ray Client.
        self.streams = not self.address.startswith("ray://")
        self.is_connected = False
        self._threads, self._gpu_share, self._tasks = threads, gpu_share, tasks
        self._had_room = -math.inf

    def connect(self) -> None:
        """Start or join it.

        Raises:
            ClusterError: it cannot be; or this process uses another.
        """
        if ray.is_initialized():
            raise ClusterError("this process uses a Ray cluster already; leave it with ray.shutdown()")
        options: dict[str, Any] = {
            "address": self.address,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "runtime_env": {
                "py_modules": [str(Path(str(spacewarps.__file__)).parent)],
                "env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), **pins()},
            },
        }
        self.is_connected = True
        # Neither what its processes print nor its news of lost workers, which would break the progress bar.
        ray_worker._worker_logs_enabled = False
        try:
            if self.address == LOCAL:
                tasks = self._tasks or max(1, available_cores() // self._threads)
                options |= {"include_dashboard": False, "num_cpus": self._threads * tasks}
                os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
                with own_signals(), loopback_only():
                    ray.init(**options)
            else:
                _check_reachable(self.address)
                with own_signals():
                    ray.init(**options)
        # Whatever kind of error Ray has for it.
        except Exception as error:
            self.close()
            raise ClusterError(in_a_line(error)) from error

    def close(self) -> None:
        """Leave it, or end it if it was started here; a cluster ends the tasks that a driver leaves running."""
        if self.is_connected:
            self.is_connected = False
            ray.shutdown()
            ray_worker._worker_logs_enabled = True

    def task(self, function: Callable[..., Any], **options: Any) -> Any:
        """Return what starts ``function`` as a task.

        What is lost is not tried again by Ray: who starts a task knows where it had come to.
        """
        return ray.remote(function).options(num_cpus=self._threads, num_gpus=self._gpu_share, max_retries=0, **options)

    def put(self, value: object) -> Any:
        """Give the cluster what many tasks are to share, and return what names it there.

        Raises:
            ClusterError: it has no room for that.
        """
        try:
            return ray.put(value)
        # Whatever kind of error Ray has for it.
        except Exception as error:
            raise ClusterError(in_a_line(error)) from error

    def room(self) -> int:
        """Return how many tasks the nodes that are there now have room for."""
        return room(ray.nodes(), self._threads, self._gpu_share)

    def check_room(self) -> None:
        """Check that a node has room for a task, or had some minutes ago: one that was lost may be replaced.

        Raises:
            ClusterError: none has.
        """
        now = time.monotonic()
        if self.room():
            self._had_room = now
        elif now - self._had_room > _SECONDS_WITHOUT_NODE:
            needed = f"{self._threads} CPUs" + (f" and {self._gpu_share} of a GPU" if self._gpu_share else "")
            raise ClusterError(f"no node has the {needed} that a task needs")


def room(nodes: list[dict[str, Any]], threads: int, gpu_share: float) -> int:
    """Return how many tasks fit on ``nodes`` at once.

    Args:
        nodes: as Ray describes them.
        threads: how many CPUs a task takes.
        gpu_share: how much of one GPU it takes.
    """
    fitting = 0
    for resources in (node["Resources"] for node in nodes if node["Alive"]):
        tasks = int(resources.get("CPU", 0)) // threads
        if gpu_share:
            # A share of a third is no exact number.
            tasks = min(tasks, int(resources.get("GPU", 0)) * int(1 / gpu_share + 1e-3))
        fitting += tasks
    return fitting


def this_machine(kind: str) -> str:
    """Return what decides the bits of a task beside the task: the ``kind`` of this machine, and what computes on it."""
    return f"{kind}, torch {torch.__version__}, NumPy {np.__version__}"


def difference_from(machine: str, kind: str) -> str | None:
    """Return in words how this machine differs from another, which is ``machine``; nothing if it does not."""
    here = this_machine(kind)
    return None if here == machine else f"{socket.gethostname()} is {here}, the other {machine}"


def reason_of_loss(error: RayError) -> str:
    """Return why a task was lost.

    Raises:
        SpaceWarpsError: the task was not lost, but raised this.
        ClusterError: its node cannot run the project.
        RuntimeError: it raised something else.
    """
    if not isinstance(error, RayTaskError) or isinstance(error.cause, RayError):
        return in_a_line(error.cause if isinstance(error, RayTaskError) else error)
    if isinstance(error.cause, SpaceWarpsError):
        raise error.cause from None
    if "failed to import on the worker" in str(error.cause):
        missing = str(error.cause).strip().splitlines()[-1]
        raise ClusterError(
            f"a node of the Ray cluster cannot run this project ({missing}); install its dependencies there"
        ) from None
    raise RuntimeError(f"in a Ray task: {error}") from None


def in_a_line(error: Exception) -> str:
    """Return the first sentence of a message that may go on with hints for those who know Ray."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    # A first line that only announces a traceback says nothing; its last one does.
    line = lines[-1] if lines[0].endswith(":") else lines[0]
    return line.split(". ")[0].rstrip(".")


@contextmanager
def own_signals() -> Iterator[None]:
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
def loopback_only() -> Iterator[None]:
    """Let Ray listen on this machine alone, and not care when the machine changes networks.

    Its own switch for this, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, is read once on import, and then rules out joining.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _check_reachable(address: str) -> None:
    """Connect to the address and leave again; Ray would try for minutes, and say so on the terminal.

    Raises:
        OSError: nobody answers there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
