"""How one network learns."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from spacewarps.errors import ModelError, ParamsError
from spacewarps.model.progressive import Inputs, ProgressiveModel
from spacewarps.seeds import derive_seed
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.loaders import epoch_batches
from spacewarps.training.compute import Compute, named_random_state

# Nothing is kept for a gradient, so larger batches fit where training's do.
_EVALUATION_BATCH = 256
# The share of the schedule in which the learning rate rises.
_WARM_UP = 0.25


@dataclass(frozen=True)
class Optimiser:
    """AdamW under a one-cycle schedule.

    Args:
        batch_size: samples in a batch.
        learning_rate: the highest of the schedule, which rises for a quarter of the training and falls to almost 0
            (Smith & Topin 2018, arXiv:1708.07120).
        weight_decay: decoupled from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101); on weight matrices and
            filters, not on biases and BatchNorm.
        label_smoothing: the share of the target that is spread over all classes.

    Raises:
        ParamsError: an argument is out of range.
    """

    batch_size: int = 32
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    label_smoothing: float = 0.05

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ParamsError(f"batch_size must be at least 1, but got batch_size={self.batch_size}")
        if not 0 < self.learning_rate < math.inf:
            raise ParamsError(f"learning_rate must be above 0, but got learning_rate={self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ParamsError(f"weight_decay must not be negative, but got weight_decay={self.weight_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ParamsError(f"label_smoothing must be from 0 to below 1, but got {self.label_smoothing}")


@dataclass(frozen=True)
class Score:
    """How well a network does on a split: the share it gets right, and the mean cross-entropy in nats."""

    accuracy: float
    loss: float

    def better_than(self, other: "Score") -> bool:
        """Say whether this score is higher in accuracy, or equal in it and lower in loss."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training came to."""

    epoch: int
    train_loss: float
    validation: Score


def fit(
    model: ProgressiveModel,
    train: Space_Galaxi,
    validation: Space_Galaxi,
    *,
    epochs: int,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    keep: Literal["last", "best"],
    on_epoch: Callable[[Epoch], None],
    on_batch: Callable[[int], None],
) -> list[Epoch]:
    """Train ``model`` in place and return what each epoch came to.

    The arguments alone decide every bit of the weights, on machines of the same kind.

    Args:
        model: ends on ``compute.device`` with the weights of the last epoch, or of the best on validation.
        train: the samples to learn from, with their augmentation.
        validation: the samples to score each epoch on.
        epochs: passes over ``train``.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides the order of the samples, their augmentation and dropout.
        keep: the weights that the model ends with.
        on_epoch: called after each epoch.
        on_batch: called after each batch with the number of samples in it.

    Raises:
        ModelError: the network was made for other data.
    """
    _check_made_for(model, train)
    compute.place(model)
    steps = epochs * -(-len(train) // optimiser.batch_size)
    adam = torch.optim.AdamW(_weight_groups(model, optimiser.weight_decay), lr=optimiser.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: one_cycle(step, steps))
    history: list[Epoch] = []
    best: tuple[Score, dict[str, Tensor]] | None = None
    with named_random_state(seed, "dropout"):
        for epoch in range(epochs):
            loss = _train_epoch(model, train, adam, schedule, optimiser, compute, seed, epoch, on_batch)
            history.append(Epoch(epoch + 1, loss, score(model, validation, compute)))
            on_epoch(history[-1])
            if keep == "best" and (best is None or history[-1].validation.better_than(best[0])):
                best = history[-1].validation, copy.deepcopy(model.state_dict())
    if best is not None:
        model.load_state_dict(best[1])
    return history


def one_cycle(step: int, steps: int) -> float:
    """Return the share of the highest learning rate at ``step`` of ``steps``, counted from 0.

    It rises in a line over the first quarter and falls as a half cosine, and is never 0 while there is a step left.
    """
    rising = max(1, round(_WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step + 1 - rising) / (steps + 1 - rising))) / 2


def _train_epoch(
    model: ProgressiveModel,
    train: Space_Galaxi,
    adam: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    epoch: int,
    on_batch: Callable[[int], None],
) -> float:
    """Return the mean loss over the epoch; one that is not finite counts as infinite."""
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=compute.device)
    batches = epoch_batches(
        len(train), optimiser.batch_size, seed=derive_seed(seed, "batches"), epoch=epoch, shuffle=True
    )
    for indices in batches:
        images, labels, features = (part.to(compute.device, non_blocking=True) for part in train.batch(indices))
        with compute.autocast():
            logits = model(images, features)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=optimiser.label_smoothing)
        adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
        total += loss.detach() * len(labels)
        on_batch(len(labels))
    return _finite_or_infinite(float(total) / len(train))


def _weight_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the weights that decay and those that do not."""
    decaying = [weights for weights in model.parameters() if weights.ndim > 1]
    others = [weights for weights in model.parameters() if weights.ndim <= 1]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def predict(model: ProgressiveModel, data: Space_Galaxi, compute: Compute) -> Tensor:
    """Return the logits of every sample of ``data``, float32 ``[N, classes]`` on the CPU, without augmentation.

    Raises:
        ModelError: the network was made for other data.
    """
    _check_made_for(model, data)
    compute.place(model)
    model.eval()
    plain = data.without_augmentation()
    logits = []
    for indices in epoch_batches(len(plain), _EVALUATION_BATCH, seed=0, epoch=0, shuffle=False):
        batch = plain.batch(indices)
        # Not around the whole function: weights that are placed in inference mode could not be trained afterwards.
        with torch.inference_mode(), compute.autocast():
            logits.append(model(batch.images.to(compute.device), batch.features.to(compute.device)).float().cpu())
    return torch.cat(logits)


def score(model: ProgressiveModel, data: Space_Galaxi, compute: Compute) -> Score:
    """Return accuracy and cross-entropy of ``model`` on ``data``; a loss that is not finite counts as infinite."""
    logits = predict(model, data, compute)
    right = int((logits.argmax(dim=1) == data.labels).sum())
    loss = float(functional.cross_entropy(logits.double(), data.labels))
    return Score(right / len(data), _finite_or_infinite(loss))


def _check_made_for(model: ProgressiveModel, data: Space_Galaxi) -> None:
    # A network of other classes would run, and its answers would be taken for these ones.
    of_data = Inputs(data.stamp_shape, tuple(data.feature_names), tuple(data.classes))
    if model.inputs != of_data:
        raise ModelError(f"the network was made for {model.inputs}, but the data are {of_data}; search again")


def _finite_or_infinite(loss: float) -> float:
    """Return ``loss``, infinite where training diverged, so that it compares and sorts."""
    return loss if math.isfinite(loss) else math.inf
