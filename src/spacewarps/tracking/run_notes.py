"""Notes of runs as MLflow takes them: in batches that are small enough, with names and values that it accepts."""

import json
import time
from collections.abc import Iterable, Mapping
from itertools import chain, islice

import psutil

from spacewarps.processes import name_of
from spacewarps.tracking.names import acceptable_name
from spacewarps.tracking.notes import (
    OUTPUTS_TAG,
    OWNER_TAG,
    RUN_TAG,
    STAGE_TAG,
    Data,
    End,
    Entries,
    Note,
    Reused,
    Start,
)
from spacewarps.tracking.spool import Spool

# Within MLflow's own limits on one batch (1,000 entries in all) and on one value.
_METRICS_A_BATCH, _PARAMS_A_BATCH, _TAGS_A_BATCH = 800, 100, 100
_PARAM_LENGTH, _TAG_LENGTH, _RUN_NAME_LENGTH = 6000, 5000, 250


class RunNotes:
    """Writes notes of runs into a spool.

    Args:
        spool: where the notes are until MLflow has them.
        at: when all of it happened, in milliseconds since 1970; each note is a moment after the one before, as MLflow
            shows runs in the order of their times. Without it, each happens when it is written.

    Attributes:
        spool: as given.
    """

    def __init__(self, spool: Spool, at: int | None = None) -> None:
        self.spool = spool
        self._at = at
        self._owner = name_of(psutil.Process())
        self._count = 0
        #: The runs that have not ended, in the order of their start.
        self._open: dict[str, None] = {}

    def note(self, note: Note) -> None:
        """Take a note over.

        Raises:
            OSError: it could not be written.
        """
        self.spool.append(note)

    def now(self) -> int:
        """Return the time of what is noted, in milliseconds since 1970."""
        if self._at is None:
            return int(time.time() * 1000)
        self._at += 1
        return self._at

    def start_run(
        self,
        name: str,
        parent: str | None,
        tags: Mapping[str, str],
        *,
        params: Mapping[str, object] | None = None,
        found_by: str = RUN_TAG,
    ) -> str:
        """Start a run below ``parent`` and return its id in the notes.

        Args:
            name: what MLflow shows.
            parent: the id of the run above.
            tags: what stands on it.
            params: what stands on it unless it has them already.
            found_by: the tag by whose value a run of other stages is found, which then goes on.
        """
        run = self._new_id()
        settings = {acceptable_name(key): str(value)[:_PARAM_LENGTH] for key, value in (params or {}).items()}
        labels = _originals(params or {}) | {**tags, OWNER_TAG: self._owner, RUN_TAG: run}
        labels = {key: value[:_TAG_LENGTH] for key, value in labels.items()}
        self.note(Start(run, name[:_RUN_NAME_LENGTH], parent, labels, self.now(), found_by, settings))
        self._open[run] = None
        return run

    def note_reused(self, stage: str, pipeline: str, outputs: Mapping[str, str]) -> None:
        """Let a run stand for a stage that was not run, unless the pipeline's run has one of it.

        Args:
            stage: its name.
            pipeline: the id of the pipeline's run.
            outputs: the hash of each of its results, by its path; they tell which run computed it.
        """
        run = self._new_id()
        tags = {
            STAGE_TAG: stage,
            OUTPUTS_TAG: json.dumps(outputs)[:_TAG_LENGTH],
            OWNER_TAG: self._owner,
            RUN_TAG: run,
        }
        self.note(Reused(run, stage, pipeline, dict(outputs), tags, self.now()))

    def _new_id(self) -> str:
        self._count += 1
        return f"{self.spool.folder.name}.{self._count}"

    def log(
        self,
        run: str,
        *,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, list[float]] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log all that is given to a run in as few requests as MLflow allows; a curve's steps count from 1.

        A name that MLflow would refuse is written as :func:`acceptable_name` has it, beside a tag of that name that
        holds the original. What MLflow refuses all the same is left out, and the rest is written.
        """
        now = self.now()
        metrics, curves, params = metrics or {}, curves or {}, params or {}
        labels = _originals(chain(metrics, curves, params))
        labels |= {acceptable_name(name): value for name, value in (tags or {}).items()}
        points = [(acceptable_name(name), float(value), now, 0) for name, value in metrics.items()]
        for name, values in curves.items():
            key = acceptable_name(name)
            points += [(key, float(value), now, step) for step, value in enumerate(values, start=1)]
        settings = [(acceptable_name(name), str(value)[:_PARAM_LENGTH]) for name, value in params.items()]
        notes = [(key, value[:_TAG_LENGTH]) for key, value in labels.items()]
        first, second, third = iter(points), iter(settings), iter(notes)
        while any(
            batch := (
                list(islice(first, _METRICS_A_BATCH)),
                list(islice(second, _PARAMS_A_BATCH)),
                list(islice(third, _TAGS_A_BATCH)),
            )
        ):
            self.note(Entries(run, *batch, now))

    def log_data(self, run: str, dataset: dict[str, str], context: str) -> None:
        """Log a data set that a run has used, by what MLflow keeps of it, and what for."""
        self.note(Data(run, dataset, context, self.now()))

    def end_run(self, run: str, status: str = "FINISHED") -> None:
        """End a run."""
        del self._open[run]
        self.note(End(run, status, self.now()))


def _originals(names: Iterable[str]) -> dict[str, str]:
    """Return the names that MLflow would refuse, by those that it is given in their place."""
    return {new: name for name in names if (new := acceptable_name(name)) != name}
