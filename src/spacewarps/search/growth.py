"""One step of the search: its candidates are evaluated, and those that the next step may grow from are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.evaluator import Evaluator
from spacewarps.search.halving import better_half
from spacewarps.search.history import Candidate, CandidateResult, FoldResult
from spacewarps.search.observer import SearchObserver
from spacewarps.search.settings import CandidateSettings
from spacewarps.search.waves import Family, family_of, one_of_each_family
from spacewarps.training.compute import Compute


@dataclass(frozen=True)
class Network:
    """A network that was grown, packed with the weights of each fold, and what it came to; nothing yet if empty."""

    result: CandidateResult | None
    packed: tuple[bytes, ...] = field(repr=False)

    @property
    def known(self) -> CandidateResult:
        """What it came to, where it is not the empty one."""
        assert self.result is not None
        return self.result


@dataclass
class Growth:
    """One step: candidates are evaluated, in waves where siblings follow each other, in rungs where halves stop.

    Args:
        evaluator: evaluates them.
        trunks: the networks that the step grows from, the best first.
        settings: how candidates are trained.
        compute: where, and in which precision.
        rungs: the epochs after which the worse half stops, and the last.
        width: how many of the best the next step may grow from.
        batches: the seed of every candidate's batches, where all share them; each has its own without it.
        checkpoints: whether every epoch's checkpoint is wanted.
        observer: told of every candidate that has its score.
        channels: those of a stamp.
        scored_on: how many samples each fold scores on.
    """

    evaluator: Evaluator
    trunks: list[Network]
    settings: CandidateSettings
    compute: Compute
    rungs: list[int]
    width: int
    batches: int | None
    checkpoints: bool
    observer: SearchObserver
    channels: int
    scored_on: list[int]

    def grow(self, candidates: Sequence[Candidate]) -> tuple[list[CandidateResult], list[Network]]:
        """Return every candidate's result in order, and the ``width`` best that did not diverge, the best first."""
        results: dict[Candidate, CandidateResult] = {}
        leaders: list[Network] = []
        siblings: dict[Family, Network] = {}
        widens = self.settings.warm_start.mode == "siblings"
        waves = one_of_each_family(candidates) if widens else [list(candidates)]
        for wave in waves:
            for network in self._evaluate([(each, siblings.get(family_of(each))) for each in wave]):
                results[network.known.candidate] = network.known
                if network.known.finished and not network.known.score.diverged:
                    # Only the leaders are kept, so memory does not grow with the number of candidates.
                    leaders = sorted([*leaders, network], key=lambda each: each.known.rank())[: self.width]
                    family = family_of(network.known.candidate)
                    if family not in siblings or network.known.rank() < siblings[family].known.rank():
                        siblings[family] = network
                self.observer.candidate_finished(network.known)
        return [results[candidate] for candidate in candidates], leaders

    def _evaluate(self, wave: Sequence[tuple[Candidate, Network | None]]) -> Iterator[Network]:
        going = [self._evaluations(candidate, sibling) for candidate, sibling in wave]
        for rung in self.rungs:
            suspended: list[tuple[CandidateResult, list[Evaluation]]] = []
            for evaluations, checkpoints in self._evaluate_until(rung, going):
                result = self._result(evaluations[0].candidate, checkpoints, rung)
                if rung == self.rungs[-1]:
                    yield Network(result, tuple(checkpoint.network for checkpoint in checkpoints))
                else:
                    resumed = zip(evaluations, checkpoints, strict=True)
                    suspended.append((result, [replace(each, start=checkpoint) for each, checkpoint in resumed]))
            suspended.sort(key=lambda each: each[0].rank())
            better = better_half(len(suspended))
            going = [evaluations for _, evaluations in suspended[:better]]
            for result, _ in suspended[better:]:
                yield Network(result, ())

    def _evaluate_until(
        self, rung: int, going: Sequence[list[Evaluation]]
    ) -> Iterator[tuple[list[Evaluation], list[Checkpoint]]]:
        """Yield the evaluations of each candidate in all folds once the last of them is at ``rung``."""
        evaluations = [replace(each, until=rung) for of_candidate in going for each in of_candidate]
        together = self.settings.trains == "block"
        ended: dict[Candidate, dict[int, Checkpoint]] = {}
        for position, checkpoint in self.evaluator.evaluate(evaluations, together=together):
            evaluation = evaluations[position]
            checkpoints = ended.setdefault(evaluation.candidate, {})
            checkpoints[evaluation.fold] = checkpoint
            if len(checkpoints) == len(self.scored_on):
                first = position - evaluation.fold
                yield (
                    evaluations[first : first + len(checkpoints)],
                    [checkpoints[fold] for fold in range(len(checkpoints))],
                )
                del ended[evaluation.candidate]

    def _evaluations(self, candidate: Candidate, sibling: Network | None) -> list[Evaluation]:
        """Return the candidate's evaluation in each fold."""
        source = sibling or self.trunks[candidate.trunk]
        return [
            Evaluation(
                candidate,
                fold,
                packed,
                widens=sibling is not None,
                batches=candidate.seed if self.batches is None else self.batches,
                settings=self.settings,
                compute=self.compute,
                until=self.settings.epochs,
                checkpoints=self.checkpoints,
            )
            for fold, packed in enumerate(source.packed)
        ]

    def _result(self, candidate: Candidate, checkpoints: Sequence[Checkpoint], rung: int) -> CandidateResult:
        parent = self.trunks[candidate.trunk].result
        channels = parent.candidate.block.k if parent else self.channels
        finished = rung == self.settings.epochs
        folds = tuple(
            FoldResult(checkpoint.epochs[:rung], samples)
            for checkpoint, samples in zip(checkpoints, self.scored_on, strict=True)
        )
        return CandidateResult(candidate, channels, checkpoints[0].parameters, folds, parent, finished)
