"""One step of the search: its candidates are evaluated, and those that the next step may grow from are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from spacewarps.search.candidate import Checkpoint, Evaluation, Grows
from spacewarps.search.decisions import Rule, measured_from
from spacewarps.search.evaluator import Evaluator
from spacewarps.search.history import Candidate, CandidateResult, FoldResult
from spacewarps.search.observer import SearchObserver
from spacewarps.search.rungs import Ladder, Rung
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


@dataclass(frozen=True)
class Control:
    """The last network that joined, which learns on beside the candidates of a step without a new block.

    Args:
        candidate: stands for it in the step.
        before: the network with the weights that it goes on from.
    """

    candidate: Candidate
    before: Network


@dataclass
class Growth:
    """One step: candidates are evaluated, in waves where siblings follow each other, in rungs where some stop.

    Args:
        evaluator: evaluates them.
        rule: ranks them.
        trunks: the networks that the step grows from, the best first.
        last: the last whose block joined; none at the first step.
        control: is evaluated beside them, and goes through all rungs; gains are measured from it.
        settings: how candidates are trained.
        compute: where, and in which precision.
        ladder: the rungs, and who goes on.
        width: how many of the best the next step may grow from.
        batches: the seed of every candidate's batches, where all share them; each has its own without it.
        checkpoints: whether every epoch's checkpoint is wanted.
        observer: told of every candidate that has its score.
        channels: those of a stamp.
    """

    evaluator: Evaluator
    rule: Rule
    trunks: list[Network]
    last: CandidateResult | None
    control: Control | None
    settings: CandidateSettings
    compute: Compute
    ladder: Ladder
    width: int
    batches: int | None
    checkpoints: bool
    observer: SearchObserver
    channels: int

    def grow(self, candidates: Sequence[Candidate]) -> tuple[dict[CandidateResult, Network | None], Network | None]:
        """Return each candidate's result, with its network where the next step may grow from it, and the control."""
        networks: dict[CandidateResult, Network] = {}
        control: Network | None = None
        results: dict[Candidate, CandidateResult] = {}
        siblings: dict[Family, Network] = {}
        widens = self.settings.warm_start.mode == "siblings"
        waves = one_of_each_family(candidates) if widens else [list(candidates)]
        for wave in waves:
            for network in self._evaluate([(each, siblings.get(family_of(each))) for each in wave]):
                result = network.known
                results[result.candidate] = result
                if result.candidate.control:
                    control = network
                elif result.finished and not result.score.diverged:
                    networks[result] = network
                    family = family_of(result.candidate)
                    if family not in siblings or self.rule.rank(result) < self.rule.rank(siblings[family].known):
                        siblings[family] = network
                # Memory does not grow with the number of candidates.
                networks = {each: networks[each] for each in self._worth_keeping(list(networks))}
                self.observer.candidate_finished(result)
        return {results[candidate]: networks.get(results[candidate]) for candidate in candidates}, control

    def _worth_keeping(self, results: Sequence[CandidateResult]) -> set[CandidateResult]:
        if not results:
            return set()
        return {*sorted(results, key=self.rule.rank)[: self.width], *self.rule.may_win(results)}

    def _evaluate(self, wave: Sequence[tuple[Candidate, Network | None]]) -> Iterator[Network]:
        going = {
            candidate: self._evaluations(
                candidate, sibling or self.trunks[candidate.trunk], "deeper" if sibling is None else "wider"
            )
            for candidate, sibling in wave
        }
        # Where siblings follow each other there is none, so a step with a control has one wave.
        if self.control is not None:
            going[self.control.candidate] = self._evaluations(self.control.candidate, self.control.before, "control")
        ended: dict[Candidate, dict[int, Checkpoint]] = {candidate: {} for candidate in going}
        for rung in self.ladder.rungs:
            last = rung == self.ladder.rungs[-1]
            results = {}
            for candidate in self._evaluate_until(rung, going, ended):
                result = results[candidate] = self._result(candidate, ended[candidate], rung.epochs, finished=last)
                if last:
                    yield Network(result, tuple(ended[candidate][fold].network for fold in sorted(ended[candidate])))
            if not last:
                control = None if self.control is None else results.pop(self.control.candidate)
                on_trial = [results[candidate] for candidate in going if candidate in results]
                go_on = self.ladder.go_on(on_trial, self.rule, measured_from(self.last, control))
                for result in results.values():
                    if result not in go_on:
                        del going[result.candidate], ended[result.candidate]
                        yield Network(result, ())

    def _evaluate_until(
        self, rung: Rung, going: dict[Candidate, list[Evaluation]], ended: dict[Candidate, dict[int, Checkpoint]]
    ) -> Iterator[Candidate]:
        """Train all that go on in the folds of ``rung``; yield each candidate once the last of these has ended."""
        evaluations = [
            replace(each[fold], until=rung.epochs, start=ended[candidate].get(fold))
            for candidate, each in going.items()
            for fold in rung.folds
        ]
        left = {candidate: set(rung.folds) for candidate in going}
        for position, checkpoint in self.evaluator.evaluate(evaluations, together=self.settings.trains == "block"):
            candidate, fold = evaluations[position].candidate, evaluations[position].fold
            ended[candidate][fold] = checkpoint
            left[candidate].remove(fold)
            if not left[candidate]:
                yield candidate

    def _evaluations(self, candidate: Candidate, source: Network, grows: Grows) -> list[Evaluation]:
        """Return the candidate's evaluation in each fold."""
        return [
            Evaluation(
                candidate,
                fold,
                packed,
                grows=grows,
                batches=candidate.seed if self.batches is None else self.batches,
                settings=self.settings,
                compute=self.compute,
                until=self.settings.epochs,
                checkpoints=self.checkpoints,
            )
            for fold, packed in enumerate(source.packed)
        ]

    def _result(
        self, candidate: Candidate, checkpoints: dict[int, Checkpoint], epochs: int, *, finished: bool
    ) -> CandidateResult:
        parent = self.trunks[candidate.trunk].result
        channels = parent.candidate.block.k if parent else self.channels
        if self.control is not None and candidate.control:
            # It has the blocks that it had.
            parent, channels = self.control.before.known.parent, self.control.before.known.channels
        in_order = [checkpoints[fold] for fold in sorted(checkpoints)]
        folds = tuple(FoldResult(each.epochs[:epochs], each.outcomes[epochs - 1]) for each in in_order)
        return CandidateResult(candidate, channels, in_order[0].parameters, folds, parent, finished)
