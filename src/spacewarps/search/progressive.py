"""The progressive architecture search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from torch.utils.data import DataLoader

from spacewarps.errors import ParamsError, SpaceWarpsError
from spacewarps.model.blocks import BlockSpec
from spacewarps.model.normalisers import stamps_to_fit
from spacewarps.model.progressive import ProgressiveModel, Widths, check_depth
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.search.candidate import Settings, WarmStart
from spacewarps.search.evaluator import Evaluator
from spacewarps.search.executors.base import Executor
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.growth import Growth, Network
from spacewarps.search.halving import MOST_HALVINGS, epochs_of_step, rungs_of
from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.search.journal import Journal, fingerprint_of_data
from spacewarps.search.observer import SearchObserver
from spacewarps.search.strategies.base import Strategy
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.seeds import derive_seed
from spacewarps.survey.dataset import Batch, BatchIndices, Space_Galaxi
from spacewarps.training.compute import Compute, kind_of_machine, named_random_state, set_up_compute
from spacewarps.training.fit import Optimiser, Trains


@dataclass(frozen=True)
class SearchResult:
    """The network that the search grew, with the weights that scored, and how it came about."""

    model: ProgressiveModel
    history: History
    #: How many candidates were trained, and how many the journal knew.
    evaluated: int
    found: int


def progressive_architecture_search(
    train: Space_Galaxi | DataLoader[Batch],
    validation: Space_Galaxi | DataLoader[Batch],
    *,
    k_candidates: Sequence[int] | Sequence[Sequence[int]] = (16, 32, 64),
    block_kinds: Sequence[str] = ("conv",),
    kernel_sizes: Sequence[int] = (3,),
    max_layers: int = 4,
    epochs_per_eval: int = 6,
    min_delta: float = 0.0,
    strategy: Strategy | None = None,
    halving: int = 0,
    warm_start: WarmStart | None = None,
    trains: Trains = "all",
    widths: Widths | None = None,
    optimiser: Optimiser | None = None,
    compute: Compute | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    journal: Journal | None = None,
    checkpoints: bool = False,
    observer: SearchObserver | None = None,
) -> SearchResult:
    """Grow a network block by block for as long as that raises its accuracy on validation.

    It starts from an empty model. At each step every block on trial is added to a copy of the last winner, trained,
    and scored on validation. The best joins for good (equal accuracy: the lower loss; equal loss: fewer weights).
    One that diverged never does. Growth ends when a step gains no more than ``min_delta``, or at ``max_layers``.

    >>> train, validation = create_train_val_dataloaders("data/prepared")  # doctest: +SKIP
    >>> result = progressive_architecture_search(train, validation, max_layers=3)  # doctest: +SKIP
    >>> result.model.ks, result.history.blocks[-1].score.accuracy  # doctest: +SKIP

    Args:
        train: the samples to learn from; of a loader, its data set and its batch size are used.
        validation: the samples that decide.
        k_candidates: the ``k`` on trial, one list for all steps or one list a step.
        block_kinds: the kinds of block on trial, each with every ``k``.
        kernel_sizes: the kernel sizes on trial, each with every kind and ``k``.
        max_layers: the largest number of blocks; at most as often as a stamp can be halved.
        epochs_per_eval: the training of one candidate.
        min_delta: a step must gain more than this in validation accuracy; the first always may.
        strategy: which blocks a step tries, on how many trunks; the greedy one without it.
        halving: how often the worse half of a step's candidates stops early: once at half of the epochs, twice at a
            quarter and at half of them, and so on (successive halving: Li et al. 2018, arXiv:1603.06560).
        warm_start: how a candidate starts from networks that were trained before.
        trains: ``all`` weights, or the new ``block``, projector and head only.
        widths: what all networks have in common.
        optimiser: how weights are learned.
        compute: where, and in which precision; this machine's best on two threads without it.
        seed: decides every draw.
        executor: where candidates are evaluated, made for the same data; in this process without it. The result is the
            same everywhere.
        journal: knows earlier evaluations, and is told of each new one; the result is the same without one.
        checkpoints: whether the journal is told after every epoch, and not only when a candidate has finished.
        observer: told what happens; the result is the same without one.

    Returns:
        The network has exactly one block for each step of the history that kept one, and exactly the weights that
        scored: scoring it again gives the history's accuracy.

    Raises:
        ParamsError: an argument is out of range, or two do not go together.
        SpaceWarpsError: memory is too short for a candidate, or every candidate of the first step diverged.
        ModelError: the stamps are too small for ``max_layers``, or a block cannot have a ``k`` or a kernel.
        ExecutorError: the executor lost its workers.
    """
    train_data, validation_data, optimiser = _unwrap(train, validation, optimiser or Optimiser())
    blocks_of_step = [
        [BlockSpec(k, kind, kernel_size) for kind in block_kinds for kernel_size in kernel_sizes for k in ks]
        for ks in _candidates_by_step(k_candidates, max_layers)
    ]
    settings = Settings(epochs_per_eval, warm_start or WarmStart(), optimiser, trains)
    rungs = rungs_of(epochs_per_eval, halving)
    _check_search(block_kinds, kernel_sizes, min_delta, halving, settings)
    check_depth(train_data.stamp_shape, max_layers)
    strategy = strategy or Greedy()
    compute = compute or set_up_compute("auto", "auto", threads=2)
    observer = observer or SearchObserver()
    executor = executor or InlineExecutor(train_data, validation_data)
    data = fingerprint_of_data(train_data, validation_data)
    ours, theirs = (train_data, validation_data), executor.data
    if any(mine is not its for mine, its in zip(ours, theirs, strict=True)) and fingerprint_of_data(*theirs) != data:
        raise ParamsError(
            "the executor was made for other data, or another augmentation, than the search is given; make it for the "
            "same two data sets"
        )
    evaluator = Evaluator(
        executor,
        journal or Journal(),
        data=data,
        machine=kind_of_machine(compute.device),
        samples=len(train_data),
        observer=observer,
    )

    empty = _empty_model(train_data, widths or Widths(), seed)
    trunks = [Network(None, pack_model(empty))]
    steps: list[Step] = []
    observer.search_started(max_layers)
    for number, blocks in enumerate(blocks_of_step, start=1):
        proposals = strategy.propose([trunk.result for trunk in trunks], blocks, steps)
        candidates = [
            Candidate(number, each.block, _seed_of(seed, number, each.block), each.trunk) for each in proposals
        ]
        observer.step_started(number, candidates, len(train_data) * epochs_of_step(rungs, len(candidates)))
        growth = Growth(
            evaluator,
            trunks,
            settings,
            compute,
            rungs,
            strategy.width,
            derive_seed(seed, "batches", number) if trains == "block" else None,
            checkpoints,
            observer,
            channels=train_data.stamp_shape[0],
        )
        results, leaders = growth.grow(candidates)
        if not leaders and not steps:
            raise SpaceWarpsError(
                f"no candidate of step {number} ended with a finite loss on validation, as their training diverged; "
                "lower optimiser.learning_rate, or look for extreme values in the stamps"
            )
        best = min(results, key=CandidateResult.rank)
        gains = not steps or (bool(leaders) and best.score.accuracy > steps[-1].best.score.accuracy + min_delta)
        predicted = tuple(each.predicted for each in proposals)
        kept = tuple(leader.known for leader in leaders) if gains else ()
        steps.append(Step(number, tuple(results), kept, predicted))
        observer.step_finished(steps[-1])
        if not gains:
            break
        trunks = leaders
    history = History(tuple(steps))
    observer.search_finished(history)
    return SearchResult(unpack_model(trunks[0].packed), history, evaluator.evaluated, evaluator.found)


def _seed_of(seed: int, step: int, block: BlockSpec) -> int:
    return derive_seed(seed, "candidate", step, block.kind, block.k, block.kernel_size)


def _check_search(
    block_kinds: Sequence[str], kernel_sizes: Sequence[int], min_delta: float, halving: int, settings: Settings
) -> None:
    for name, values in (("block_kinds", block_kinds), ("kernel_sizes", kernel_sizes)):
        if not values or len(set(values)) != len(values):
            raise ParamsError(f"{name} must name different values, at least one, but got {name}={list(values)}")
    if not 0 <= min_delta < 1:
        raise ParamsError(f"min_delta must be from 0 to below 1, but got min_delta={min_delta}")
    if not 0 <= halving <= MOST_HALVINGS:
        raise ParamsError(f"halving must be from 0 to {MOST_HALVINGS}, but got halving={halving}")
    if halving and settings.warm_start.mode == "siblings":
        raise ParamsError(
            "halving stops candidates early that others would be widened from; "
            "set halving=0, or warm start's mode to 'previous' or 'none'"
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
    for what in ("classes", "feature_names", "stamp_shape"):
        if getattr(first, what) != getattr(second, what):
            raise ParamsError(
                f"training and validation must have the same {what}, "
                f"but got {getattr(first, what)} and {getattr(second, what)}"
            )
    return first, second, replace(optimiser, batch_size=batch_size)


def _candidates_by_step(k_candidates: Sequence[int] | Sequence[Sequence[int]], max_layers: int) -> list[list[int]]:
    if max_layers < 1:
        raise ParamsError(f"max_layers must be at least 1, but got max_layers={max_layers}")
    nested = [_as_ints(ks) for ks in k_candidates if isinstance(ks, Sequence)]
    steps = nested[:max_layers] if nested else [_as_ints(k_candidates)] * max_layers
    one_shape = len(nested) in (0, len(k_candidates)) and len(steps) == max_layers
    if not one_shape or not all(ks and min(ks) >= 1 and len(set(ks)) == len(ks) for ks in steps):
        raise ParamsError(
            "k_candidates must be different positive numbers, one list for all steps or one list a step, "
            f"but got k_candidates={k_candidates} for max_layers={max_layers}"
        )
    return steps


def _as_ints(ks: Sequence[Any]) -> list[int]:
    """Return NumPy's whole numbers as Python's, whose seeds are the same, and 0 for what is no whole number."""
    return [int(k) if isinstance(k, Integral) else 0 for k in ks]


def _empty_model(train: Space_Galaxi, widths: Widths, seed: int) -> ProgressiveModel:
    """Return a network without blocks whose normalisers know the training split."""
    with named_random_state(seed, "initialisation"):
        model = ProgressiveModel(train.stamp_shape, train.feature_names, train.classes, widths)
    # Not all of `train.stamps`, which may be more than memory holds.
    some = train.without_augmentation().batch(BatchIndices(stamps_to_fit(len(train)), seed=0))
    model.fit_normalisers(some.images.numpy(), train.features)
    return model
