"""One step of the search: its candidates are evaluated, and those that the next step may grow from are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from spacewarps.search.candidate import Checkpoint, Evaluation, Settings
from spacewarps.search.evaluator import Evaluator
from spacewarps.search.halving import better_half
from spacewarps.search.history import Candidate, CandidateResult
from spacewarps.search.observer import SearchObserver
from spacewarps.search.waves import Family, family_of, one_of_each_family
from spacewarps.training.compute import Compute


@dataclass(frozen=True)
class Network:
    """A network that was grown, and what it came to; the empty one came to nothing yet."""

    result: CandidateResult | None
    packed: bytes = field(repr=False)

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
    """

    evaluator: Evaluator
    trunks: list[Network]
    settings: Settings
    compute: Compute
    rungs: list[int]
    width: int
    batches: int | None
    checkpoints: bool
    observer: SearchObserver
    channels: int

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
        evaluations = [self._evaluation(candidate, sibling) for candidate, sibling in wave]
        for rung in self.rungs:
            evaluations = [replace(evaluation, until=rung) for evaluation in evaluations]
            last = rung == self.rungs[-1]
            halted: list[tuple[CandidateResult, Evaluation]] = []
            for position, checkpoint in self.evaluator.evaluate(evaluations, together=self.settings.trains == "block"):
                result = self._result(evaluations[position].candidate, checkpoint, rung)
                if last:
                    yield Network(result, checkpoint.network)
                else:
                    halted.append((result, replace(evaluations[position], start=checkpoint)))
            halted.sort(key=lambda each: each[0].rank())
            better = better_half(len(halted))
            evaluations = [evaluation for _, evaluation in halted[:better]]
            for result, _ in halted[better:]:
                yield Network(result, b"")

    def _evaluation(self, candidate: Candidate, sibling: Network | None) -> Evaluation:
        return Evaluation(
            candidate,
            sibling.packed if sibling else self.trunks[candidate.trunk].packed,
            widens=sibling is not None,
            batches=candidate.seed if self.batches is None else self.batches,
            settings=self.settings,
            compute=self.compute,
            until=self.settings.epochs,
            checkpoints=self.checkpoints,
        )

    def _result(self, candidate: Candidate, checkpoint: Checkpoint, rung: int) -> CandidateResult:
        parent = self.trunks[candidate.trunk].result
        channels = parent.candidate.block.k if parent else self.channels
        finished = rung == self.settings.epochs
        return CandidateResult(candidate, channels, checkpoint.weights, checkpoint.epochs[:rung], parent, finished)
