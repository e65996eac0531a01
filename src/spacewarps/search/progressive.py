"""The progressive architecture search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import DataLoader

from spacewarps.errors import ParamsError, SpaceWarpsError
from spacewarps.model.network import ProgressiveModel, check_depth
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.search.decisions import rule_of
from spacewarps.search.evaluator import Evaluator
from spacewarps.search.executors.base import Executor
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.growth import Control, Growth, Network
from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.search.journal import Journal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.rungs import ladder_of
from spacewarps.search.settings import SearchSettings
from spacewarps.search.strategies.base import Proposal, Strategy
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.seeds import derive_seed
from spacewarps.survey.dataset import Batch, Space_Galaxi
from spacewarps.training.compute import Compute, check_surroundings, kind_of_machine, set_up_compute
from spacewarps.training.settings import ComputeSettings, Optimiser
from spacewarps.training.untrained import new_network


@dataclass(frozen=True)
class SearchResult:
    """The network that the search grew, and how it came about.

    Args:
        models: the network with the weights that scored, those of each fold.
        history: every step, every candidate.
        evaluated: how many candidates were trained, in some fold at least.
        found: how many the journal knew in all folds.
    """

    models: tuple[ProgressiveModel, ...]
    history: History
    evaluated: int
    found: int

    @property
    def model(self) -> ProgressiveModel:
        """The network with the weights of the first fold, which mostly is the only one."""
        return self.models[0]


def progressive_architecture_search(
    train: Space_Galaxi | DataLoader[Batch],
    validation: Space_Galaxi | DataLoader[Batch],
    settings: SearchSettings = SearchSettings(),
    *,
    strategy: Strategy | None = None,
    configuration: Configuration = Configuration(),
    optimiser: Optimiser = Optimiser(),
    compute: Compute | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    journal: Journal | None = None,
    observer: SearchObserver | None = None,
) -> SearchResult:
    """Grow a network block by block for as long as a block helps.

    It starts from an empty model. At each step every block on trial is added to a copy of the last winner, trained,
    and scored on validation. The winner's block joins if it has gained: by default, if its loss is lower by more than
    noise, and of blocks that are alike the smallest wins; with ``decides="accuracy"`` on one split, if its accuracy is
    higher (:mod:`spacewarps.search.decisions`). One that diverged never joins. Growth ends after ``settings.patience``
    steps in turn without gain, or at ``settings.max_layers``. :func:`search_folds` takes several folds.

    >>> train, validation = create_train_val_dataloaders("data/prepared")  # doctest: +SKIP
    >>> result = progressive_architecture_search(train, validation, SearchSettings(max_layers=3))  # doctest: +SKIP
    >>> result.model.ks, result.history.blocks[-1].score.accuracy  # doctest: +SKIP

    Args:
        train: the samples to learn from; of a loader, its data set and its batch size are used.
        validation: the samples that decide.
        settings: how far the network grows, which blocks are on trial, and how they are trained.
        strategy: which blocks a step tries, on how many trunks; the greedy one without it.
        configuration: what all networks have in common.
        optimiser: how weights are learned.
        compute: where, and in which precision; this machine's best on one thread without it.
        seed: decides every draw.
        executor: where candidates are evaluated, made for the same data; in this process without it. The result is the
            same everywhere.
        journal: knows earlier evaluations, and is told of each new one; the result is the same without one.
        observer: told what happens; the result is the same without one.

    Returns:
        The network has exactly one block for each step of the history that kept one, and exactly the weights that
        scored: scoring it again gives the history's accuracy.

    Raises:
        ParamsError: the data sets are of different kinds, or the executor was made for others.
        SpaceWarpsError: there is not enough memory for a candidate, every candidate of the first step diverged, or the
            strategy proposes what cannot be tried.
        ModelError: the stamps are too small for ``max_layers``.
        ExecutorError: the executor lost its workers.
    """
    train_data, validation_data, optimiser = _unwrap(train, validation, optimiser)
    return search_folds(
        [Fold(train_data, validation_data)],
        settings,
        strategy=strategy,
        configuration=configuration,
        optimiser=optimiser,
        compute=compute,
        seed=seed,
        executor=executor,
        journal=journal,
        observer=observer,
    )


def search_folds(
    folds: Sequence[Fold],
    settings: SearchSettings,
    *,
    strategy: Strategy | None = None,
    configuration: Configuration = Configuration(),
    optimiser: Optimiser = Optimiser(),
    compute: Compute | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    journal: Journal | None = None,
    observer: SearchObserver | None = None,
) -> SearchResult:
    """Grow a network that is trained once for each fold, and scored on the samples of all of them.

    A candidate starts, in each fold, from the weights that the last winner has in that fold. With one fold this is
    :func:`progressive_architecture_search`, where the arguments are explained.
    """
    _check_folds(folds)
    try:
        settings.check_folds(len(folds))
    except ValueError as error:
        raise ParamsError(str(error)) from None
    blocks_by_step = settings.blocks_by_step()
    stamp_shape = folds[0].train.stamp_shape
    check_depth(stamp_shape, settings.max_layers)
    strategy = strategy or Greedy()
    check_surroundings()
    compute = compute or set_up_compute(ComputeSettings())
    journal, observer = journal or Journal(), observer or SearchObserver()
    executor = executor or InlineExecutor(folds)
    fingerprints = [fold.fingerprint() for fold in folds]
    _check_same_data(folds, fingerprints, executor)
    evaluator = Evaluator(
        executor, journal, fingerprints=fingerprints, machine=kind_of_machine(compute.device), observer=observer
    )
    rule, ladder = rule_of(settings, folds), ladder_of(settings, len(folds))
    trunks = [Network(None, tuple(pack_model(new_network(fold.train, [], configuration, seed)) for fold in folds))]
    steps: list[Step] = []
    # The network so far: where steps without gain are tried, the trunks are ahead of it.
    grown, tries_left = trunks[0], settings.patience
    # The same network as the control goes on with it, so that it has as many epochs behind it as the trunks.
    learned_on = grown
    observer.search_started(settings.max_layers)
    for number, blocks in enumerate(blocks_by_step, start=1):
        proposals = _proposals(strategy, number, trunks, blocks, steps)
        candidates = [
            Candidate(number, each.block, _seed_of(seed, number, each.block), each.trunk) for each in proposals
        ]
        control = None
        if settings.control and grown.result is not None:
            control = Control(_as_control(grown.result, number, seed), learned_on)
        samples = ladder.samples(folds, len(candidates), control=control is not None)
        observer.step_started(number, [*candidates, *([control.candidate] if control else [])], samples)
        growth = Growth(
            evaluator,
            rule,
            trunks,
            grown.result,
            control,
            settings.of_candidate(optimiser),
            compute,
            ladder,
            strategy.width,
            derive_seed(seed, "batches", number) if settings.trains == "block" else None,
            journal.every_epoch,
            observer,
            channels=stamp_shape[0],
        )
        networks, controlled = growth.grow(candidates)
        of_control = controlled.result if controlled else None
        if controlled and not controlled.known.score.diverged:
            learned_on = controlled
        tries_left -= 1
        decision = rule.decide(
            list(networks),
            grown.result,
            tries_left=min(tries_left, settings.max_layers - number),
            control=of_control,
        )
        if not decision.joins and not steps:
            raise SpaceWarpsError(
                f"no candidate of step {number} ended with a finite loss on validation, as their training diverged; "
                "lower `learning_rate`, or look for extreme values in the stamps"
            )
        winner = networks[decision.winner]
        goes_on = winner is not None and (decision.joins or tries_left > 0)
        if winner is not None and goes_on:
            others = [each for each in networks.values() if each is not None and each is not winner]
            others.sort(key=lambda each: rule.rank(each.known))
            trunks = [winner, *others][: strategy.width]
            if decision.joins:
                grown, learned_on, tries_left = winner, winner, settings.patience
        predicted = tuple(each.predicted for each in proposals)
        kept = tuple(trunk.known for trunk in trunks) if goes_on else ()
        steps.append(Step(number, tuple(networks), kept, predicted, decision, of_control))
        observer.step_finished(steps[-1])
        if not goes_on:
            break
    history = History(tuple(steps))
    observer.search_finished(history)
    return SearchResult(tuple(map(unpack_model, grown.packed)), history, evaluator.evaluated, evaluator.found)


def _proposals(
    strategy: Strategy, number: int, trunks: Sequence[Network], blocks: Sequence[BlockSpec], steps: Sequence[Step]
) -> list[Proposal]:
    """Return what ``strategy`` proposes for step ``number``; refuse what would fail once candidates are trained."""
    proposals = [
        # NumPy's numbers cannot be written as JSON.
        replace(each, trunk=int(each.trunk), predicted=None if each.predicted is None else float(each.predicted))
        for each in strategy.propose([trunk.result for trunk in trunks], blocks, steps)
    ]
    who = f"the strategy {type(strategy).__name__}, asked for step {number},"
    if not proposals:
        raise SpaceWarpsError(f"{who} proposes nothing; it must propose one block at least")
    seen = set()
    for proposal in proposals:
        block = f"{proposal.block.kind} k={proposal.block.k}"
        if proposal.trunk not in range(len(trunks)):
            raise SpaceWarpsError(
                f"{who} proposes {block} on trunk {proposal.trunk}, but the trunks are 0 to {len(trunks) - 1}"
            )
        if (proposal.trunk, proposal.block) in seen:
            raise SpaceWarpsError(f"{who} proposes {block} on trunk {proposal.trunk} twice; once is enough")
        seen.add((proposal.trunk, proposal.block))
        if proposal.predicted is not None and not math.isfinite(proposal.predicted):
            raise SpaceWarpsError(
                f"{who} predicts an accuracy of {proposal.predicted} for {block}; it must be a number, or none"
            )
    return proposals


def _seed_of(seed: int, step: int, block: BlockSpec) -> int:
    return derive_seed(seed, "candidate", step, block.kind, block.k, block.kernel_size)


def _as_control(last: CandidateResult, step: int, seed: int) -> Candidate:
    return Candidate(step, last.candidate.block, derive_seed(seed, "control", step), control=True)


def _check_folds(folds: Sequence[Fold]) -> None:
    if not folds:
        raise ParamsError("a search needs at least one fold, but got none")
    first = folds[0].train
    for data in (data for fold in folds for data in fold):
        for what in ("classes", "feature_names", "stamp_shape"):
            if getattr(data, what) != getattr(first, what):
                raise ParamsError(
                    f"training and validation must have the same {what}, in all folds, "
                    f"but got {getattr(first, what)} and {getattr(data, what)}"
                )


def _check_same_data(folds: Sequence[Fold], fingerprints: Sequence[str], executor: Executor) -> None:
    if len(executor.folds) != len(folds):
        raise ParamsError(
            f"the executor was made for {len(executor.folds)} folds, but the search is given {len(folds)}"
        )
    for fold, fingerprint, theirs in zip(folds, fingerprints, executor.folds, strict=True):
        same = all(mine is its for mine, its in zip(fold, theirs, strict=True))
        if not same and theirs.fingerprint() != fingerprint:
            raise ParamsError(
                "the executor was made for other data, or another augmentation, than the search is given; make it for "
                "the same two data sets"
            )


def _unwrap(
    train: Space_Galaxi | DataLoader[Batch], validation: Space_Galaxi | DataLoader[Batch], optimiser: Optimiser
) -> tuple[Space_Galaxi, Space_Galaxi, Optimiser]:
    """Return the data sets of both, and the optimiser with the batch size of the training loader, if it is one."""
    batch_size: Any = getattr(getattr(train, "batch_sampler", None), "batch_size", optimiser.batch_size)
    data = [part.dataset if isinstance(part, DataLoader) else part for part in (train, validation)]
    for part in data:
        if not isinstance(part, Space_Galaxi):
            raise ParamsError(
                f"the search takes Space_Galaxi data sets or loaders of them, but got {type(part).__name__}; "
                "create_train_val_dataloaders makes them"
            )
    first, second = data
    assert isinstance(first, Space_Galaxi)
    assert isinstance(second, Space_Galaxi)
    return first, second, replace(optimiser, batch_size=batch_size)
