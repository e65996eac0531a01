"""The learning of one network, epoch by epoch."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spacewarps.errors import ModelError
from spacewarps.model.network import ProgressiveModel
from spacewarps.seeds import derive_seed
from spacewarps.survey.dataset import Batch, BatchIndices, Space_Galaxi
from spacewarps.survey.loaders import epoch_batches, fetched_ahead
from spacewarps.training.compute import Compute, check_surroundings, named_random_state
from spacewarps.training.prediction import score_side_by_side
from spacewarps.training.schedule import one_cycle
from spacewarps.training.score import Epoch, Outcomes, Score, finite_or_infinite
from spacewarps.training.settings import Optimiser


class Training:
    """The learning of one network, epoch by epoch; after any epoch it can be suspended and resumed, to the bit.

    Args:
        model: is trained in place, and moves to ``compute.device``.
        epochs: the passes that the learning rate's schedule is made for.
        labels: of the samples that it learns from, ``[N]``; they tell the batches of a pass and the classes' weights.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides dropout.
        frozen_depth: how many blocks of the trunk, from the first, stay as they are: their weights and statistics.
        average: the decay of a moving average of the weights (:func:`move_average`), which then is what was learned; 0
            for the weights themselves.
    """

    def __init__(
        self,
        model: ProgressiveModel,
        *,
        epochs: int,
        labels: Tensor,
        optimiser: Optimiser,
        compute: Compute,
        seed: int,
        frozen_depth: int = 0,
        average: float = 0.0,
    ) -> None:
        check_surroundings()
        compute.place(model)
        self.model = model
        self.compute = compute
        self.frozen_depth = frozen_depth
        self.history: list[Epoch] = []
        #: On each sample that the last epoch was scored on.
        self.outcomes: Outcomes | None = None
        #: How many passes it has learned from.
        self.passes = 0
        self._optimiser = optimiser
        self._steps_per_epoch = -(-len(labels) // optimiser.batch_size)
        self._steps = epochs * self._steps_per_epoch
        self._class_weights = (
            balanced_weights(labels, len(model.inputs.classes)).to(compute.device)
            if optimiser.class_weights == "balanced"
            else None
        )
        self._seed = seed
        for block in model.trunk[: self.frozen_depth]:
            block.requires_grad_(False)
        groups = _weight_groups(model, optimiser.weight_decay)
        self._adam = torch.optim.AdamW(groups, lr=optimiser.learning_rate, fused=True)
        self._total = torch.zeros(())
        self._average = average
        self._averaged: ProgressiveModel | None = None

    @property
    def learned(self) -> ProgressiveModel:
        """What is scored and kept in the end, the network or the average of its weights."""
        return self._averaged or self.model

    def begin_epoch(self) -> None:
        """Get ready for a pass."""
        self.model.train()
        for block in self.model.trunk[: self.frozen_depth]:
            block.eval()
        self._total = torch.zeros((), dtype=torch.float64, device=self.compute.device)

    def learn(self, number: int, maps: Tensor, labels: Tensor, features: Tensor) -> None:
        """Take one step.

        Args:
            number: of the batch within the epoch, from 0.
            maps: what the frozen blocks made of the stamps, ``[B, C, H, W]``.
            labels: ``[B]``.
            features: ``[B, F]`` in catalogue units.
        """
        epoch = self.passes
        for group in self._adam.param_groups:
            step = epoch * self._steps_per_epoch + number
            group["lr"] = self._optimiser.learning_rate * one_cycle(step, self._steps)
        with named_random_state(self._seed, "dropout", epoch, number), self.compute.autocast():
            logits = self.model.finish(maps, features, self.frozen_depth)
        loss = functional.cross_entropy(
            logits.float(), labels, self._class_weights, label_smoothing=self._optimiser.label_smoothing
        )
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        if self._averaged is not None:
            move_average(self._averaged, self.model, self._average)
        elif self._average:
            # From the first step on: what a network starts with is no part of what it learned.
            self._averaged = copy.deepcopy(self.model)
        self._total += loss.detach() * len(labels)

    def end_pass(self, samples: int) -> float:
        """Return the training loss of a pass over ``samples`` samples, infinite where it is not finite."""
        self.passes += 1
        return finite_or_infinite(float(self._total) / samples)

    def end_epoch(self, samples: int, validation: Score, outcomes: Outcomes) -> Epoch:
        """Note what the pass over ``samples`` samples came to, and how the network then did."""
        self.outcomes = outcomes
        epoch = Epoch(len(self.history) + 1, self.end_pass(samples), validation)
        self.history.append(epoch)
        return epoch

    def optimiser_state(self) -> dict[str, Tensor]:
        """Return the optimiser's state and the average: with the weights, all that the next epoch depends on."""
        states = self._adam.state_dict()["state"]
        averaged = self._averaged.state_dict() if self._averaged is not None else {}
        return {
            f"{name}.{number}": tensor.cpu().contiguous()
            for number in states
            for name, tensor in states[number].items()
        } | {f"average.{name}": tensor.cpu().contiguous() for name, tensor in averaged.items()}

    def resume(self, history: Sequence[Epoch], optimiser_state: Mapping[str, Tensor]) -> None:
        """Go on after ``history``; the network has the weights of its end already.

        Raises:
            ModelError: ``optimiser_state`` is that of another network.
        """
        if self._average:
            self._averaged = copy.deepcopy(self.model)
        weights = [weights for group in self._adam.param_groups for weights in group["params"]]
        try:
            for number, tensor in enumerate(weights):
                # In the layout of the weights, which the fused optimiser goes through together with these.
                self._adam.state[tensor] = {
                    "step": optimiser_state[f"step.{number}"].to(self.compute.device, copy=True),
                    "exp_avg": torch.empty_like(tensor).copy_(optimiser_state[f"exp_avg.{number}"]),
                    "exp_avg_sq": torch.empty_like(tensor).copy_(optimiser_state[f"exp_avg_sq.{number}"]),
                }
            if self._averaged is not None:
                for name, tensor in self._averaged.state_dict().items():
                    tensor.copy_(optimiser_state[f"average.{name}"])
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"the state of the training does not fit the network ({error})") from None
        self.history = list(history)
        self.passes = len(self.history)


def run_epoch(
    trainings: Sequence[Training],
    train: Space_Galaxi,
    validation: Space_Galaxi,
    *,
    batch_size: int,
    seed: int,
) -> Iterator[int]:
    """Let every one of ``trainings`` learn from the same batches, in turn, and score them.

    Each ends with the bits that it would have alone. What their networks have in common, the frozen blocks, is
    computed once for all.

    Args:
        trainings: all at the same epoch, with equal weights in equally many frozen blocks.
        train: the samples to learn from, with their augmentation.
        validation: the samples to score on.
        batch_size: samples in a batch.
        seed: decides the order of the samples and their augmentation.

    Yields:
        The number of samples, after each batch of each training.
    """
    yield from run_pass(trainings, train, batch_size=batch_size, seed=seed)
    depth, compute = trainings[0].frozen_depth, trainings[0].compute
    scores = score_side_by_side([training.learned for training in trainings], validation, compute, depth)
    for training, (score, outcomes) in zip(trainings, scores, strict=True):
        training.end_epoch(len(train), score, outcomes)


def run_pass(trainings: Sequence[Training], train: Space_Galaxi, *, batch_size: int, seed: int) -> Iterator[int]:
    """Let every one of ``trainings`` learn from the same batches, as :func:`run_epoch` does, without scoring them.

    Whoever asks for it ends the pass.
    """
    first = trainings[0]
    epoch, depth, compute = first.passes, first.frozen_depth, first.compute
    for training in trainings:
        training.begin_epoch()
    batches = epoch_batches(len(train), batch_size, seed=derive_seed(seed, "batches"), epoch=epoch, shuffle=True)
    for number, batch in enumerate(_fetched(train, batches, compute)):
        images, labels, features = (part.to(compute.device, non_blocking=True) for part in batch)
        with torch.no_grad(), compute.autocast():
            maps = first.model.maps(images, depth)
        for training in trainings:
            training.learn(number, maps, labels, features)
            yield len(labels)


def _fetched(train: Space_Galaxi, batches: Iterator[BatchIndices], compute: Compute) -> Iterator[Batch]:
    """Yield the batches; while an accelerator learns from one, the processor prepares the next."""
    if compute.device.type == "cpu":
        return map(train.batch, batches)
    # A copy to the device waits for what it computes, unless it is made from memory that cannot be moved.
    return fetched_ahead(lambda indices: Batch(*(part.pin_memory() for part in train.batch(indices))), batches)


@torch.no_grad()
def move_average(averaged: ProgressiveModel, model: ProgressiveModel, decay: float) -> None:
    """Move the weights of ``averaged`` towards those of ``model``: ``decay * averaged + (1 - decay) * model``.

    The mean over the steps of a training lies nearer the minimum than its last step does (Polyak & Juditsky 1992, SIAM
    J. Control Optim. 30, 838; for networks Izmailov et al. 2018, arXiv:1803.05407). The statistics of BatchNorm are
    averaged along, so that they fit the weights. What is no floating-point number, a counter, is copied.
    """
    for mean, current in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)
        else:
            mean.copy_(current)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return ``N / (classes * N_class)`` for each class, float32 ``[classes]``, as scikit-learn balances them.

    A class without a sample weighs nothing and does not count.

    Args:
        labels: of the samples, ``[N]``.
        classes: how many classes there are.
    """
    counts = torch.bincount(labels, minlength=classes).double()
    weights = len(labels) / (counts.count_nonzero() * counts)
    return torch.where(counts > 0, weights, 0.0).float()


def _weight_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the weights that learn: those that decay and those that do not."""
    learning = [weights for weights in model.parameters() if weights.requires_grad]
    decaying = [weights for weights in learning if weights.ndim > 1]
    others = [weights for weights in learning if weights.ndim <= 1]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
