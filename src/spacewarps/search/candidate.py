"""The evaluation of candidates: what it needs, what comes of it, and how it is done."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from spacewarps.errors import ModelError, ParamsError, SpaceWarpsError
from spacewarps.model.morphisms import scale_and_jitter, widen_block
from spacewarps.model.progressive import ProgressiveModel
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.resources import memory_is_short
from spacewarps.search.history import Candidate
from spacewarps.seeds import torch_generator
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.fit import Epoch, Optimiser, Training, Trains, check_made_for, run_epoch

_MODES = ("none", "previous", "siblings")


@dataclass(frozen=True)
class WarmStart:
    """How a candidate's first weights come from networks that were trained before.

    Args:
        mode: ``previous`` copies the last winner's and adds the new block; ``siblings`` takes the candidates of a step
            in ascending ``k``, and each after the first widens the block of the best so far of its kind at this step;
            ``none`` draws all weights anew.
        scale: multiplies the copies.
        jitter: the noise added to the copies, in standard deviations of each tensor's own weights.

    Raises:
        ParamsError: an argument is out of range.
    """

    mode: Literal["none", "previous", "siblings"] = "previous"
    scale: float = 1.0
    jitter: float = 0.05

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ParamsError(f"warm start's mode must be one of {', '.join(_MODES)}, but got mode={self.mode!r}")
        if not 0 < self.scale < math.inf or not 0 <= self.jitter < math.inf:
            raise ParamsError(
                f"warm start's scale must be above 0 and its jitter not negative, "
                f"but got scale={self.scale}, jitter={self.jitter}"
            )


@dataclass(frozen=True)
class Settings:
    """How the candidates of a search are trained.

    Args:
        epochs: the training of one candidate, and what its learning rate's schedule is made for.
        warm_start: where its first weights come from.
        optimiser: how its weights change.
        trains: ``all`` weights; or all but the trunk below the new ``block``, which then is the last winner's as it
            is, without jitter, and is computed once for all candidates that one worker evaluates together.

    Raises:
        ParamsError: an argument is out of range, or two do not go together.
    """

    epochs: int = 6
    warm_start: WarmStart = field(default_factory=WarmStart)
    optimiser: Optimiser = field(default_factory=Optimiser)
    trains: Trains = "all"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ParamsError(f"the epochs of a candidate must be at least 1, but got epochs={self.epochs}")
        if self.trains not in ("all", "block"):
            raise ParamsError(f"trains must be 'all' or 'block', but got trains={self.trains!r}")
        if self.trains == "block" and self.warm_start.mode == "none":
            raise ParamsError(
                "trains='block' leaves the trunk as it was trained, but warm start's mode 'none' draws it anew; "
                "choose mode 'previous', or trains='all'"
            )


@dataclass(frozen=True)
class Checkpoint:
    """Where the evaluation of a candidate stands after an epoch.

    Args:
        epochs: what each epoch so far came to.
        weights: the number of the network's weights that can learn.
        network: the network, packed.
        moments: the optimiser's memory, packed; none after the last epoch, when nothing follows.
    """

    epochs: tuple[Epoch, ...]
    weights: int
    network: bytes = field(repr=False)
    moments: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one candidate up to some epoch, with all that decides its bits but the data.

    Args:
        candidate: what is on trial.
        source: the packed network that it grows from.
        widens: the last block of ``source`` is widened to the candidate's, and no block is added.
        batches: the seed of the batches' order and augmentation.
        settings: how it is trained.
        compute: where, and in which precision.
        until: the epoch after which it is put down, at most ``settings.epochs``.
        start: where it goes on from; it starts with ``source`` without it.
        checkpoints: whether every epoch's checkpoint is wanted, and not only the last one's.
    """

    candidate: Candidate
    source: bytes = field(repr=False)
    widens: bool
    batches: int
    settings: Settings
    compute: Compute
    until: int
    start: Checkpoint | None = None
    checkpoints: bool = False


@dataclass(frozen=True)
class Trained:
    """A batch of ``samples`` samples was learned from."""

    samples: int


@dataclass(frozen=True)
class EpochEnded:
    """The evaluation at ``position`` ended an epoch; the one at which it is put down always has its checkpoint."""

    position: int
    epoch: Epoch
    checkpoint: Checkpoint | None


def evaluate(
    evaluations: Sequence[Evaluation], train: Space_Galaxi, validation: Space_Galaxi
) -> Iterator[Trained | EpochEnded]:
    """Train and score candidates, and yield what happens.

    A pure function of its arguments: the same bits in this process, in another, today or after a crash. Several
    evaluations advance together, batch by batch; each ends with the bits that it would have alone.

    Args:
        evaluations: one; or several from the same source with the same batches, settings and start, whose frozen
            trunk is computed once for all.
        train: the samples to learn from, with their augmentation.
        validation: the samples to score on.

    Raises:
        ModelError: a source or a checkpoint is damaged, or was made for other data.
        SpaceWarpsError: memory is too short.
    """
    first = evaluations[0]
    with _memory_is_enough(first.candidate):
        trainings = [_training(evaluation, train) for evaluation in evaluations]
        while len(trainings[0].history) < first.until:
            batch_size = first.settings.optimiser.batch_size
            for samples in run_epoch(trainings, train, validation, batch_size=batch_size, seed=first.batches):
                yield Trained(samples)
            for position, (evaluation, training) in enumerate(zip(evaluations, trainings, strict=True)):
                wanted = evaluation.checkpoints or len(training.history) == evaluation.until
                checkpoint = _checkpoint(training, evaluation.settings.epochs) if wanted else None
                yield EpochEnded(position, training.history[-1], checkpoint)


@contextmanager
def _memory_is_enough(candidate: Candidate) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory_is_short(error):
            raise
        raise SpaceWarpsError(
            f"memory is too short to evaluate {candidate.label} at step {candidate.step}; lower search.k_candidates, "
            "search.workers or optimiser.batch_size"
        ) from error


def grow(source: ProgressiveModel, candidate: Candidate, settings: Settings, widens: bool) -> ProgressiveModel:
    """Return a copy of ``source`` with the candidate's block on top, its weights started as ``settings`` say.

    Args:
        source: the last winner; or a sibling with a narrower block of the same kind on top.
        candidate: the block, and the seed of all draws.
        settings: the warm start, and what will learn: the copies that will not stay as they are.
        widens: ``source`` is a sibling.
    """
    warm_start, block = settings.warm_start, candidate.block
    with named_random_state(candidate.seed, "initialisation"):
        if warm_start.mode == "none":
            model = source.with_new_weights()
        else:
            model = copy.deepcopy(source)
            if widens:
                widening = torch_generator(candidate.seed, "widening")
                model = widen_block(source, len(source.trunk) - 1, block.k, widening)
            frozen = len(model.trunk) - widens if settings.trains == "block" else 0
            learning = nn.ModuleList(
                [*model.trunk[frozen:], *(part for part in model.children() if part is not model.trunk)]
            )
            scale_and_jitter(learning, warm_start.scale, warm_start.jitter, torch_generator(candidate.seed, "jitter"))
        if not widens:
            model.add_block(block.k, block.kind, block.kernel_size)
    return model


def _training(evaluation: Evaluation, train: Space_Galaxi) -> Training:
    start, settings = evaluation.start, evaluation.settings
    if start is None:
        model = grow(unpack_model(evaluation.source), evaluation.candidate, settings, evaluation.widens)
    else:
        model = unpack_model(start.network)
    check_made_for(model, train)
    training = Training(
        model,
        epochs=settings.epochs,
        steps_per_epoch=-(-len(train) // settings.optimiser.batch_size),
        optimiser=settings.optimiser,
        compute=evaluation.compute,
        seed=evaluation.candidate.seed,
        trains=settings.trains,
    )
    if start is not None:
        try:
            training.resume(start.epochs, load(start.moments or b""))
        except SafetensorError as error:
            raise ModelError(f"the state of a training is damaged ({error})") from None
    return training


def _checkpoint(training: Training, epochs: int) -> Checkpoint:
    weights = sum(tensor.numel() for tensor in training.model.parameters())
    moments = None if len(training.history) == epochs else save(training.moments())
    return Checkpoint(tuple(training.history), weights, pack_model(training.model), moments)
