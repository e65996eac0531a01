"""The evaluation of candidates: what it needs, what comes of it, and how it is done."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from spacewarps.errors import ModelError, SpaceWarpsError
from spacewarps.model.morphisms import scale_and_jitter, widen_block
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.storage import pack_model, unpack_model
from spacewarps.resources import memory_is_short
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate
from spacewarps.search.settings import CandidateSettings
from spacewarps.seeds import torch_generator
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.prediction import check_made_for
from spacewarps.training.score import Epoch, Outcomes
from spacewarps.training.training import Training, run_epoch

Grows = Literal["deeper", "wider", "control", "not"]


@dataclass(frozen=True)
class Checkpoint:
    """Where the evaluation of a candidate stands after an epoch.

    Args:
        epochs: what each epoch so far came to.
        outcomes: and on each sample that it was scored on.
        parameters: the number of the network's parameters.
        network: the network, packed.
        optimiser_state: packed; none after the last epoch, when nothing follows.
    """

    epochs: tuple[Epoch, ...]
    outcomes: tuple[Outcomes, ...] = field(repr=False)
    parameters: int
    network: bytes = field(repr=False)
    optimiser_state: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one candidate up to some epoch, with all that decides its bits but the data.

    Args:
        candidate: what is on trial.
        fold: the number of the fold that it learns from and is scored on, from 0.
        source: the packed network that it grows from, in the same fold.
        grows: ``deeper``, where the candidate's block is added to ``source``; ``wider``, where the last block of
            ``source`` is widened to the candidate's; ``control``, where ``source`` is started as it is for a candidate,
            and no block is added; or ``not``, where ``source`` is the network as it starts.
        batches: the seed of the batches' order and augmentation.
        settings: how it is trained.
        compute: where, and in which precision.
        until: the epoch after which it is suspended, at most ``settings.epochs``.
        start: where it is resumed; it starts with ``source`` without it.
        checkpoints: whether every epoch's checkpoint is wanted, and not only the last one's.
    """

    candidate: Candidate
    fold: int
    source: bytes = field(repr=False)
    grows: Grows
    batches: int
    settings: CandidateSettings
    compute: Compute
    until: int
    start: Checkpoint | None = None
    checkpoints: bool = False

    @property
    def what(self) -> str:
        """What people call it."""
        name = "the final network" if self.grows == "not" else f"step {self.candidate.step}, {self.candidate.label}"
        return f"{name}, fold {self.fold + 1}"


@dataclass(frozen=True)
class Trained:
    """A batch of ``samples`` samples was learned from."""

    samples: int


@dataclass(frozen=True)
class EpochEnded:
    """The evaluation at ``position`` ended an epoch; the one after which it is suspended always has its checkpoint."""

    position: int
    epoch: Epoch
    checkpoint: Checkpoint | None


def evaluate(evaluations: Sequence[Evaluation], folds: Sequence[Fold]) -> Iterator[Trained | EpochEnded]:
    """Train and score candidates, and yield what happens.

    A pure function of its arguments: the same bits in this process, in another, today or after a crash. Several
    evaluations advance together, batch by batch; each ends with the bits that it would have alone.

    Args:
        evaluations: one; or several in one fold from the same source with the same batches, settings and start, whose
            frozen trunk is computed once for all.
        folds: the data, by number.

    Raises:
        ModelError: a source or a checkpoint is damaged, or was made for other data.
        SpaceWarpsError: there is not enough memory.
    """
    first = evaluations[0]
    train, validation = folds[first.fold]
    with _memory_is_enough(first):
        trainings = [_training(evaluation, train) for evaluation in evaluations]
        outcomes = [list(evaluation.start.outcomes) if evaluation.start else [] for evaluation in evaluations]
        while len(trainings[0].history) < first.until:
            batch_size = first.settings.optimiser.batch_size
            for samples in run_epoch(trainings, train, validation, batch_size=batch_size, seed=first.batches):
                yield Trained(samples)
            for position, (evaluation, training) in enumerate(zip(evaluations, trainings, strict=True)):
                assert training.outcomes is not None
                outcomes[position].append(training.outcomes)
                wanted = evaluation.checkpoints or len(training.history) == evaluation.until
                checkpoint = _checkpoint(training, outcomes[position], evaluation.settings.epochs) if wanted else None
                yield EpochEnded(position, training.history[-1], checkpoint)


@contextmanager
def _memory_is_enough(evaluation: Evaluation) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory_is_short(error):
            raise
        raise SpaceWarpsError(
            f"there is not enough memory to train {evaluation.what}; lower `workers`"
            f"{' or' if evaluation.grows == 'not' else ','} `batch_size`"
            f"{'' if evaluation.grows == 'not' else ' or `k_candidates`'}"
        ) from error


def grow(source: ProgressiveModel, candidate: Candidate, settings: CandidateSettings, widens: bool) -> ProgressiveModel:
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
            _warm_up(model, candidate, settings, len(model.trunk) - widens)
        if not widens:
            model.add_block(block.k, block.kind, block.kernel_size)
    return model


def _warm_up(model: ProgressiveModel, candidate: Candidate, settings: CandidateSettings, trunk: int) -> None:
    """Scale and jitter what will learn of ``model``, whose first ``trunk`` blocks are those of the last winner."""
    warm_start, frozen = settings.warm_start, trunk if settings.trains == "block" else 0
    learning = nn.ModuleList([*model.trunk[frozen:], *(part for part in model.children() if part is not model.trunk)])
    scale_and_jitter(learning, warm_start.scale, warm_start.jitter, torch_generator(candidate.seed, "jitter"))


def _training(evaluation: Evaluation, train: Space_Galaxi) -> Training:
    start, settings = evaluation.start, evaluation.settings
    if start is None:
        model = unpack_model(evaluation.source)
        if evaluation.grows == "control":
            _warm_up(model, evaluation.candidate, settings, len(model.trunk))
        elif evaluation.grows != "not":
            model = grow(model, evaluation.candidate, settings, evaluation.grows == "wider")
    else:
        model = unpack_model(start.network)
    check_made_for(model, train)
    new_blocks = 0 if evaluation.grows == "control" else 1
    training = Training(
        model,
        epochs=settings.epochs,
        labels=train.labels,
        optimiser=settings.optimiser,
        compute=evaluation.compute,
        seed=evaluation.candidate.seed,
        frozen_depth=len(model.trunk) - new_blocks if settings.trains == "block" else 0,
        average=settings.average,
    )
    if start is not None:
        try:
            training.resume(start.epochs, load(start.optimiser_state or b""))
        except SafetensorError as error:
            raise ModelError(f"the state of an optimiser is damaged ({error})") from None
    return training


def _checkpoint(training: Training, outcomes: Sequence[Outcomes], epochs: int) -> Checkpoint:
    parameters = sum(tensor.numel() for tensor in training.model.parameters())
    done = len(training.history) == epochs
    state = None if done else save(training.optimiser_state())
    network = pack_model(training.learned if done else training.model)
    return Checkpoint(tuple(training.history), tuple(outcomes), parameters, network, state)
