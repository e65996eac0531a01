"""Candidates meet the journal, which may know them, and the executor, which evaluates the others."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from spacewarps.search.candidate import Checkpoint, EpochEnded, Evaluation, Trained
from spacewarps.search.executors.base import Executor, ExecutorError, Lost
from spacewarps.search.history import Candidate
from spacewarps.search.journal import Journal
from spacewarps.search.keys import key_of
from spacewarps.search.observer import SearchObserver
from spacewarps.training.score import Epoch

_ATTEMPTS = 3
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_UNTIL_SAID = 5.0


@dataclass(eq=False)
class _Work:
    """One evaluation on its way; ``position`` is its place among those that were asked for."""

    position: int
    evaluation: Evaluation
    key: str
    ended: bool = False
    #: Workers that were lost since the evaluation last came further, and how far that was.
    losses: int = 0
    epochs: int = 0


_Job = list[_Work]
_Ended = tuple[int, Checkpoint]


class Evaluator:
    """Evaluates candidates, none of them twice.

    Args:
        executor: where.
        journal: knows earlier evaluations, and is told of each new one.
        fingerprints: those of the executor's folds.
        machine: the kind of machine that it computes on.
        observer: told what happens.
    """

    def __init__(
        self,
        executor: Executor,
        journal: Journal,
        *,
        fingerprints: Sequence[str],
        machine: str,
        observer: SearchObserver,
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._fingerprints = fingerprints
        self._machine = machine
        self._observer = observer
        self._tickets = 0
        self._evaluated: set[Candidate] = set()
        self._found: set[Candidate] = set()
        self._started: set[Candidate] = set()
        # How many epochs of each candidate in each fold the observer has heard of.
        self._told: dict[tuple[Candidate, int], int] = {}

    @property
    def evaluated(self) -> int:
        """How many candidates were trained, in some fold at least."""
        return len(self._evaluated)

    @property
    def found(self) -> int:
        """How many candidates were in the journal in all folds, so that nothing had to be done."""
        return len(self._found - self._evaluated)

    def evaluate(self, evaluations: Sequence[Evaluation], *, together: bool) -> Iterator[tuple[int, Checkpoint]]:
        """Yield the position of each evaluation, and where it was suspended, in the order in which they end.

        Args:
            evaluations: may run side by side. The widest start first, so that no worker idles at the end.
            together: those of one trunk share it frozen, so each worker takes several of them at once.

        Raises:
            ExecutorError: a candidate lost its worker several times without coming further in between.
            SpaceWarpsError: what an evaluation raises.
        """
        work = [
            _Work(position, evaluation, key_of(evaluation, self._fingerprints[evaluation.fold], self._machine))
            for position, evaluation in enumerate(evaluations)
        ]
        # An executor that starts when it is first asked need not start for what the journal knows.
        together = together and any(_epochs(self._look_up(each)) < each.evaluation.until for each in work)
        waiting = _jobs(work, self._executor.workers) if together else _alone(work)
        running: dict[int, _Job] = {}
        awaited = 0.0
        try:
            while waiting or running:
                yield from self._start(waiting, running)
                if running:
                    awaited = 0.0
                    yield from self._listen(waiting, running)
                elif waiting:
                    awaited = self._await_others(waiting, awaited)
        finally:
            if running:
                self._executor.abandon()
            self._release(work for job in running.values() for work in job)

    def _start(self, waiting: list[_Job], running: dict[int, _Job]) -> Iterator[_Ended]:
        """Submit jobs while there are workers for them; yield what turns out to be known already."""
        for job in waiting.copy():
            # There is always one worker; and fewer than before where a node of a cluster is lost.
            if running and len(running) >= self._executor.workers:
                return
            waiting.remove(job)
            claimed = [work for work in job if self._journal.claim(work.key)]
            # Another search has the others in hand; what it finds will be in the journal.
            _put_back(waiting, job, claimed)
            starts = {work: self._look_up(work) for work in claimed}
            for work, start in starts.items():
                if start is not None and len(start.epochs) >= work.evaluation.until:
                    yield self._found_in_journal(work, start)
            claimed = [work for work in claimed if not work.ended]
            # Those that advance together stand at the same epoch.
            abreast = [work for work in claimed if _epochs(starts[work]) == _epochs(starts[claimed[0]])]
            self._release(_put_back(waiting, claimed, abreast))
            if abreast:
                self._tickets += 1
                running[self._tickets] = abreast
                self._submit(self._tickets, [(work, starts[work]) for work in abreast])

    def _listen(self, waiting: list[_Job], running: dict[int, _Job]) -> Iterator[_Ended]:
        """Hear from the executor for a moment; yield what has ended."""
        for ticket, event in self._executor.wait(_SECONDS_BETWEEN_LOOKS):
            if isinstance(event, Trained):
                self._observer.batch_trained(event.samples)
            elif isinstance(event, EpochEnded):
                yield from self._note(running[ticket][event.position], event)
            else:
                left = [work for work in running.pop(ticket) if not work.ended]
                if isinstance(event, Lost) and left:
                    waiting.append(left)
                    for work in left:
                        self._lose(work, event.reason)

    def _note(self, work: _Work, event: EpochEnded) -> Iterator[_Ended]:
        """Tell the observer and the journal of an epoch; yield the evaluation if that was its last."""
        self._tell(work, (event.epoch,), learned=False)
        if event.checkpoint is None:
            return
        self._journal.write(work.key, work.evaluation, event.checkpoint)
        if event.epoch.epoch == work.evaluation.until:
            self._release([work])
            work.ended = True
            yield work.position, event.checkpoint

    def _found_in_journal(self, work: _Work, checkpoint: Checkpoint) -> _Ended:
        self._release([work])
        self._found.add(work.evaluation.candidate)
        self._tell(work, checkpoint.epochs[: work.evaluation.until], learned=True)
        work.ended = True
        return work.position, checkpoint

    def _await_others(self, waiting: list[_Job], awaited: float) -> float:
        """Sleep for a moment, as other searches have all that waits in hand; return the seconds of that so far."""
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        awaited += _SECONDS_BETWEEN_LOOKS
        if awaited == _SECONDS_UNTIL_SAID:
            self._observer.others_awaited(sum(map(len, waiting)))
        return awaited

    def _release(self, work: Iterable[_Work]) -> None:
        for each in work:
            self._journal.release(each.key)

    def _look_up(self, work: _Work) -> Checkpoint | None:
        """Return the latest checkpoint of the evaluation, from the journal or from where it was suspended before."""
        candidates = (self._journal.find(work.key), work.evaluation.start)
        return max(candidates, key=_epochs)

    def _submit(self, ticket: int, job: Sequence[tuple[_Work, Checkpoint | None]]) -> None:
        evaluations = []
        for work, start in job:
            self._evaluated.add(work.evaluation.candidate)
            self._tell(work, start.epochs if start else (), learned=True)
            evaluations.append(replace(work.evaluation, start=start))
        self._executor.submit(ticket, evaluations)

    def _tell(self, work: _Work, epochs: Sequence[Epoch], *, learned: bool) -> None:
        """Tell the observer of the epochs that it has not heard of yet; ``learned`` before, so of their batches too."""
        candidate, fold = work.evaluation.candidate, work.evaluation.fold
        if candidate not in self._started:
            self._started.add(candidate)
            self._observer.candidate_started(candidate)
        for epoch in epochs:
            if epoch.epoch > self._told.get((candidate, fold), 0):
                self._told[candidate, fold] = epoch.epoch
                if learned:
                    self._observer.batch_trained(len(self._executor.folds[fold].train))
                self._observer.epoch_finished(candidate, fold, epoch)

    def _lose(self, work: _Work, reason: str) -> None:
        epochs = _epochs(self._look_up(work))
        work.losses = 1 if epochs > work.epochs else work.losses + 1
        work.epochs = epochs
        self._release([work])
        if work.losses == _ATTEMPTS:
            raise ExecutorError(
                f"{_ATTEMPTS} workers in turn were lost while they trained {work.evaluation.what} ({reason}); "
                "if memory is short, lower `workers` or `batch_size`"
            )


def _alone(work: Sequence[_Work]) -> list[_Job]:
    """Return a job for each evaluation, the widest first."""
    return [[each] for each in sorted(work, key=lambda each: -each.evaluation.candidate.block.k)]


def _jobs(work: Sequence[_Work], workers: int) -> list[_Job]:
    """Return jobs of evaluations of one trunk and fold each, as many as keep ``workers`` busy, the widest first."""
    trunks: dict[tuple[bool, int, int], _Job] = {}
    for [each] in _alone(work):
        candidate = each.evaluation.candidate
        # A control has a trunk of its own.
        trunks.setdefault((candidate.control, candidate.trunk, each.evaluation.fold), []).append(each)
    share = -(-workers // len(trunks))
    return [job for trunk in sorted(trunks) for first in range(share) if (job := trunks[trunk][first::share])]


def _put_back(waiting: list[_Job], job: _Job, taken: _Job) -> _Job:
    """Let what is left of ``job`` without ``taken`` wait, and return it."""
    left = [work for work in job if work not in taken]
    if left:
        waiting.append(left)
    return left


def _epochs(checkpoint: Checkpoint | None) -> int:
    return len(checkpoint.epochs) if checkpoint else 0
