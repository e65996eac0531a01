"""Candidates meet the journal, which may know them, and the executor, which evaluates the others."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from spacewarps.search.candidate import Checkpoint, EpochEnded, Evaluation, Trained
from spacewarps.search.executors.base import Executor, ExecutorError, Lost
from spacewarps.search.history import Candidate
from spacewarps.search.journal import Journal, key_of
from spacewarps.search.observer import SearchObserver
from spacewarps.training.fit import Epoch

_ATTEMPTS = 3
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_UNTIL_SAID = 5.0


@dataclass
class _Work:
    """One evaluation on its way."""

    evaluation: Evaluation
    key: str
    #: Workers that were lost since the evaluation last came further, and how far that was.
    losses: int = 0
    epochs: int = 0


class Evaluator:
    """Evaluates candidates, none of them twice.

    Args:
        executor: where.
        journal: knows earlier evaluations, and is told of each new one.
        data: the fingerprint of what the executor trains and scores on.
        machine: the kind of machine that it computes on.
        samples: how many samples one epoch trains on.
        observer: told what happens.
    """

    def __init__(
        self, executor: Executor, journal: Journal, *, data: str, machine: str, samples: int, observer: SearchObserver
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._data = data
        self._machine = machine
        self._samples = samples
        self._observer = observer
        self._tickets = 0
        self._evaluated: set[str] = set()
        self._found: set[str] = set()
        # How many epochs of each candidate the observer has heard of.
        self._told: dict[Candidate, int] = {}

    @property
    def evaluated(self) -> int:
        """How many candidates were trained, at least in part."""
        return len(self._evaluated)

    @property
    def found(self) -> int:
        """How many candidates were in the journal, so that nothing had to be done."""
        return len(self._found - self._evaluated)

    def evaluate(self, evaluations: Sequence[Evaluation], *, together: bool) -> Iterator[tuple[int, Checkpoint]]:
        """Yield the position of each evaluation, and where it was put down, in the order in which they end.

        Args:
            evaluations: may run side by side. The widest start first, so that no worker idles at the end.
            together: those of one trunk share it frozen, so each worker takes several of them at once.

        Raises:
            ExecutorError: a candidate lost its worker several times without coming further in between.
            SpaceWarpsError: what an evaluation raises.
        """
        work = [_Work(evaluation, key_of(evaluation, self._data, self._machine)) for evaluation in evaluations]
        # An executor that starts when it is first asked need not start for what the journal knows.
        together = together and any(_epochs(self._look_up(each)) < each.evaluation.until for each in work)
        workers = self._executor.workers if together else 1
        waiting = _jobs([evaluation.candidate for evaluation in evaluations], workers, together)
        running: dict[int, list[int]] = {}
        ended: set[int] = set()
        idle = 0.0
        try:
            while waiting or running:
                for job in waiting.copy():
                    # There is always one; and fewer than before where a node of a cluster is lost.
                    if running and len(running) >= self._executor.workers:
                        break
                    waiting.remove(job)
                    claimed = [position for position in job if self._journal.claim(work[position].key)]
                    # Another search has the others in hand; what it finds will be in the journal.
                    if len(claimed) < len(job):
                        waiting.append([position for position in job if position not in claimed])
                    known = {position: self._look_up(work[position]) for position in claimed}
                    for position, checkpoint in known.items():
                        if checkpoint is not None and _epochs(checkpoint) >= evaluations[position].until:
                            claimed.remove(position)
                            self._journal.release(work[position].key)
                            self._found.add(work[position].key)
                            self._tell(work[position], checkpoint.epochs[: evaluations[position].until], learned=True)
                            yield position, checkpoint
                    if claimed:
                        # Those that advance together stand at the same epoch.
                        epochs = _epochs(known[claimed[0]])
                        others = [position for position in claimed if _epochs(known[position]) != epochs]
                        if others:
                            waiting.append(others)
                            for position in others:
                                claimed.remove(position)
                                self._journal.release(work[position].key)
                        self._tickets += 1
                        running[self._tickets] = claimed
                        self._submit(self._tickets, [(work[position], known[position]) for position in claimed])
                if not running:
                    if waiting:
                        time.sleep(_SECONDS_BETWEEN_LOOKS)
                        idle += _SECONDS_BETWEEN_LOOKS
                        if idle == _SECONDS_UNTIL_SAID:
                            self._observer.others_awaited(sum(map(len, waiting)))
                    continue
                idle = 0.0
                for ticket, event in self._executor.wait(_SECONDS_BETWEEN_LOOKS):
                    if isinstance(event, Trained):
                        self._observer.batch_trained(event.samples)
                    elif isinstance(event, EpochEnded):
                        position = running[ticket][event.position]
                        self._tell(work[position], (event.epoch,), learned=False)
                        if event.checkpoint is not None:
                            self._journal.write(work[position].key, evaluations[position], event.checkpoint)
                        if event.checkpoint is not None and event.epoch.epoch == evaluations[position].until:
                            self._journal.release(work[position].key)
                            ended.add(position)
                            yield position, event.checkpoint
                    else:
                        left = [position for position in running.pop(ticket) if position not in ended]
                        if isinstance(event, Lost) and left:
                            waiting.append(left)
                            for position in left:
                                self._lose(work[position], event.reason)
        finally:
            if running:
                self._executor.abandon()
            for position in (position for job in running.values() for position in job):
                self._journal.release(work[position].key)

    def _look_up(self, work: _Work) -> Checkpoint | None:
        """Return the furthest that the evaluation has come: in the journal, or where it was put down before."""
        candidates = (self._journal.find(work.key), work.evaluation.start)
        return max(candidates, key=_epochs)

    def _submit(self, ticket: int, job: Sequence[tuple[_Work, Checkpoint | None]]) -> None:
        evaluations = []
        for work, start in job:
            self._evaluated.add(work.key)
            self._tell(work, start.epochs if start else (), learned=True)
            evaluations.append(replace(work.evaluation, start=start))
        self._executor.submit(ticket, evaluations)

    def _tell(self, work: _Work, epochs: Sequence[Epoch], *, learned: bool) -> None:
        """Tell the observer of the epochs that it has not heard of yet; ``learned`` before, so of their batches too."""
        candidate = work.evaluation.candidate
        if candidate not in self._told:
            self._told[candidate] = 0
            self._observer.candidate_started(candidate)
        for epoch in epochs:
            if epoch.epoch > self._told[candidate]:
                self._told[candidate] = epoch.epoch
                if learned:
                    self._observer.batch_trained(self._samples)
                self._observer.epoch_finished(candidate, epoch)

    def _lose(self, work: _Work, reason: str) -> None:
        epochs = _epochs(self._look_up(work))
        work.losses = 1 if epochs > work.epochs else work.losses + 1
        work.epochs = epochs
        self._journal.release(work.key)
        if work.losses == _ATTEMPTS:
            block = work.evaluation.candidate.block
            raise ExecutorError(
                f"{_ATTEMPTS} workers in turn were lost while they evaluated {block.kind} k={block.k} ({reason}); "
                "if memory is short, lower search.workers or optimiser.batch_size"
            )


def _jobs(candidates: Sequence[Candidate], workers: int, together: bool) -> list[list[int]]:
    """Return the positions of the candidates that are evaluated at once, each alone or with others of its trunk."""
    order = sorted(range(len(candidates)), key=lambda position: -candidates[position].block.k)
    if not together:
        return [[position] for position in order]
    trunks = sorted({candidate.trunk for candidate in candidates})
    share = -(-workers // len(trunks))
    of_trunks = [[position for position in order if candidates[position].trunk == trunk] for trunk in trunks]
    return [job for positions in of_trunks for job in (positions[first::share] for first in range(share)) if job]


def _epochs(checkpoint: Checkpoint | None) -> int:
    return len(checkpoint.epochs) if checkpoint else 0
