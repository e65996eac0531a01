"""The progressive architecture search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from torch.utils.data import DataLoader

from spacewarps.errors import ParamsError
from spacewarps.model.normalisers import stamps_to_fit
from spacewarps.model.progressive import ProgressiveModel, Widths, check_depth
from spacewarps.search.candidate import WarmStart, evaluate_candidate
from spacewarps.search.history import Candidate, CandidateResult, History, Step
from spacewarps.search.observer import SearchObserver
from spacewarps.seeds import derive_seed
from spacewarps.survey.dataset import Batch, BatchIndices, Space_Galaxi
from spacewarps.training.compute import Compute, named_random_state, set_up_compute
from spacewarps.training.fit import Optimiser


@dataclass(frozen=True)
class SearchResult:
    """The network that the search grew, with the weights that scored, and how it came about."""

    model: ProgressiveModel
    history: History


def progressive_architecture_search(
    train: Space_Galaxi | DataLoader[Batch],
    validation: Space_Galaxi | DataLoader[Batch],
    *,
    k_candidates: Sequence[int] | Sequence[Sequence[int]] = (16, 32, 64),
    max_layers: int = 4,
    epochs_per_eval: int = 6,
    min_delta: float = 0.0,
    warm_start: WarmStart | None = None,
    widths: Widths | None = None,
    optimiser: Optimiser | None = None,
    compute: Compute | None = None,
    seed: int = 0,
    observer: SearchObserver | None = None,
) -> SearchResult:
    """Grow a network block by block for as long as that raises its accuracy on validation.

    It starts from an empty model. At each step every ``k`` is tried: a block of ``k`` channels is added to a copy of
    the last winner, trained, and scored on validation. The best joins for good (equal accuracy: the lower loss; equal
    loss: fewer weights). Growth ends when a step gains no more than ``min_delta``, or at ``max_layers``.

    >>> train, validation = create_train_val_dataloaders("data/prepared")  # doctest: +SKIP
    >>> result = progressive_architecture_search(train, validation, max_layers=3)  # doctest: +SKIP
    >>> result.model.ks, result.history.blocks[-1].score.accuracy  # doctest: +SKIP

    Args:
        train: the samples to learn from; of a loader, its data set and its batch size are used.
        validation: the samples that decide.
        k_candidates: the ``k`` on trial, one list for all steps or one list a step.
        max_layers: the largest number of blocks; at most as often as a stamp can be halved.
        epochs_per_eval: the training of one candidate.
        min_delta: a step must gain more than this in validation accuracy; the first always may.
        warm_start: how a candidate starts from the last winner.
        widths: what all networks have in common.
        optimiser: how weights are learned.
        compute: where, and in which precision; this machine's best on two threads without it.
        seed: decides every draw.
        observer: told what happens; the result is the same without one.

    Returns:
        The network has exactly one block for each step of the history that chose one, and exactly the weights that
        scored: scoring it again gives the history's accuracy.

    Raises:
        ParamsError: an argument is out of range.
        ModelError: the stamps are too small for ``max_layers``.
    """
    train_data, validation_data, optimiser = _unwrap(train, validation, optimiser or Optimiser())
    ks_of_step = _candidates_by_step(k_candidates, max_layers)
    if epochs_per_eval < 1:
        raise ParamsError(f"epochs_per_eval must be at least 1, but got epochs_per_eval={epochs_per_eval}")
    if not 0 <= min_delta < 1:
        raise ParamsError(f"min_delta must be from 0 to below 1, but got min_delta={min_delta}")
    check_depth(train_data.stamp_shape, max_layers)
    compute = compute or set_up_compute("auto", "auto", threads=2)
    observer = observer or SearchObserver()

    winner = _empty_model(train_data, widths or Widths(), seed)
    best_accuracy = 0.0
    steps: list[Step] = []
    observer.search_started(max_layers, len(train_data) * epochs_per_eval * sum(map(len, ks_of_step)))
    for number, ks in enumerate(ks_of_step, start=1):
        candidates = [Candidate(number, k, derive_seed(seed, "candidate", number, "conv", k)) for k in ks]
        observer.step_started(number, candidates)
        results: list[CandidateResult] = []
        leader: ProgressiveModel | None = None
        for candidate in candidates:
            observer.candidate_started(candidate)
            result, model = evaluate_candidate(
                winner,
                candidate,
                train_data,
                validation_data,
                epochs=epochs_per_eval,
                warm_start=warm_start or WarmStart(),
                optimiser=optimiser,
                compute=compute,
                observer=observer,
            )
            # Only the step's leader is kept, so memory does not grow with the number of candidates.
            results.append(result)
            if min(results, key=CandidateResult.rank) is result:
                leader = model
            observer.candidate_finished(result)
        best = min(results, key=CandidateResult.rank)
        gains = best.score.accuracy > best_accuracy + min_delta or number == 1
        steps.append(Step(number, tuple(results), best if gains else None))
        observer.step_finished(steps[-1])
        if not gains or leader is None:
            break
        winner, best_accuracy = leader, best.score.accuracy
    history = History(tuple(steps))
    observer.search_finished(history)
    return SearchResult(winner, history)


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
