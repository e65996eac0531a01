"""Writing runs to MLflow, so that a failure of MLflow costs notes and never the work."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spacewarps.progress import say
from spacewarps.tracking.failures import reason
from spacewarps.tracking.names import acceptable_name

PARENT_TAG = "mlflow.parentRunId"
#: Which process a run belongs to.
OWNER_TAG = "spacewarps.process"
# Within MLflow's own limits on one batch (1,000 entries in all) and on one value.
_METRICS_A_BATCH, _PARAMS_A_BATCH, _TAGS_A_BATCH = 800, 100, 100
_PARAM_LENGTH, _TAG_LENGTH, _RUN_NAME_LENGTH = 6000, 5000, 250
# What MLflow says of a name or a value that it will not have, as opposed to a store that does not answer.
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
# Failures may cost as many seconds, and this share of the time since the start; beyond that nothing is tried.
_LOSS_SECONDS, _LOSS_SHARE = 2.0, 0.02

Result = TypeVar("Result")
Entry = Metric | Param | RunTag


@dataclass(frozen=True)
class _End:
    status: str
    #: In milliseconds since 1970, as MLflow counts.
    time: int


@dataclass
class Tracker:
    """Writes runs to MLflow, and knows how long that took.

    A failure to write while work is going on costs the note, never the work: it is said once, and later notes are
    tried. Failures that take long pause the notes, so that a store that does not answer costs the work a small share
    of its time.
    """

    client: MlflowClient
    experiment_id: str
    seconds: float = 0.0
    #: What stands on each run that is started or goes on.
    owner: str = ""
    _start: float = field(default_factory=time.monotonic, repr=False)
    _lost: float = field(default=0.0, repr=False)
    _told: set[str] = field(default_factory=set, repr=False)
    #: The runs that MLflow does not know to have ended, with their end once they have.
    _open: dict[str, _End | None] = field(default_factory=dict, repr=False)

    def attempt(self, write: Callable[[], Result], *, urgent: bool = False) -> Result | None:
        """Return what ``write`` returns, or nothing if it fails or if failures have taken too much time already.

        Args:
            write: asks MLflow for something.
            urgent: try whatever time was lost.
        """
        start = time.monotonic()
        if not urgent and self._lost > _LOSS_SECONDS + _LOSS_SHARE * (start - self._start):
            return None
        try:
            return write()
        except Exception as error:
            # Stores of runs and of artifacts fail with errors of many kinds: MLflow's, the system's, the server's.
            self._lost += time.monotonic() - start
            self._tell(error)
            return None
        finally:
            self.seconds += time.monotonic() - start

    def _tell(self, error: Exception) -> None:
        # A name that was refused is no reason to be silent about a server that is gone.
        kind = "refused" if _refused(error) else "failed"
        if kind not in self._told:
            self._told.add(kind)
            say(f"MLflow did not take a note ({reason(error)}); the work goes on, and later notes are tried")

    def start_run(self, name: str, parent: str | None, tags: Mapping[str, str]) -> str | None:
        """Start a run below ``parent`` and return its id, or nothing if MLflow fails."""
        below = {} if parent is None else {PARENT_TAG: parent}
        labels = {key: value[:_TAG_LENGTH] for key, value in {**tags, **below, OWNER_TAG: self.owner}.items()}

        def create() -> str:
            run = self.client.create_run(self.experiment_id, tags=labels, run_name=name[:_RUN_NAME_LENGTH])
            return str(run.info.run_id)

        run_id = self.attempt(create)
        if run_id is not None:
            self._open[run_id] = None
        return run_id

    def reopen_run(self, run_id: str) -> None:
        """Let a run go on that another process has ended."""
        self._open[run_id] = None
        self.log(run_id, tags={OWNER_TAG: self.owner})
        self.attempt(lambda: self.client.update_run(run_id, status="RUNNING"))

    def log(
        self,
        run_id: str | None,
        *,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, list[float]] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write all that is given to a run in as few requests as MLflow allows; a curve's steps count from 1.

        A name that MLflow would refuse is written as :func:`acceptable_name` has it, beside a tag of that name that
        holds the original. What MLflow refuses all the same is left out, and the rest is written.
        """
        if run_id is None:
            return
        now = int(time.time() * 1000)
        metrics, curves, params = metrics or {}, curves or {}, params or {}
        renamed = {acceptable_name(name): name for name in chain(metrics, curves, params)}
        labels = {new: name for new, name in renamed.items() if new != name}
        labels |= {acceptable_name(name): value for name, value in (tags or {}).items()}
        points = [Metric(acceptable_name(name), float(value), now, 0) for name, value in metrics.items()]
        for name, values in curves.items():
            key = acceptable_name(name)
            points += [Metric(key, float(value), now, step) for step, value in enumerate(values, start=1)]
        settings = (Param(acceptable_name(name), str(value)[:_PARAM_LENGTH]) for name, value in params.items())
        notes = (RunTag(key, value[:_TAG_LENGTH]) for key, value in labels.items())
        waiting: list[tuple[Iterator[Entry], int]] = [
            (iter(points), _METRICS_A_BATCH),
            (settings, _PARAMS_A_BATCH),
            (notes, _TAGS_A_BATCH),
        ]
        while batch := [entry for entries, size in waiting for entry in islice(entries, size)]:
            self._write(run_id, batch)

    def _write(self, run_id: str, entries: list[Entry]) -> None:
        """Write entries in one request; if that is refused, halve it until only what is refused is left out."""

        def write() -> bool:
            try:
                self.client.log_batch(
                    run_id,
                    [entry for entry in entries if isinstance(entry, Metric)],
                    [entry for entry in entries if isinstance(entry, Param)],
                    [entry for entry in entries if isinstance(entry, RunTag)],
                )
            except MlflowException as error:
                if len(entries) == 1 or not _refused(error):
                    raise
                return False
            return True

        if self.attempt(write) is False:
            half = len(entries) // 2
            self._write(run_id, entries[:half])
            self._write(run_id, entries[half:])

    def end_run(self, run_id: str | None, status: str = "FINISHED") -> None:
        """End a run; where MLflow fails to note it, :meth:`end_open_runs` tries again."""
        if run_id is not None:
            end = self._open[run_id] = _End(status, int(time.time() * 1000))
            self._write_end(run_id, end)

    def end_open_runs(self, status: str) -> None:
        """End every run that this process started or reopened, the newest first.

        Args:
            status: how those ended that :meth:`end_run` was not called for.
        """
        before, now = self._lost, int(time.time() * 1000)
        for run_id, end in reversed(list(self._open.items())):
            # A server that does not answer is not waited for once for each run.
            if self._lost - before <= _LOSS_SECONDS:
                self._write_end(run_id, end or _End(status, now), urgent=True)

    def _write_end(self, run_id: str, end: _End, *, urgent: bool = False) -> None:
        def write() -> None:
            self.client.set_terminated(run_id, end.status, end_time=end.time)
            del self._open[run_id]

        self.attempt(write, urgent=urgent)


def _refused(error: Exception) -> bool:
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS
