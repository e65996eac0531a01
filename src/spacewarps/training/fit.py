"""How one network learns."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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

Trains = Literal["all", "block"]


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

    @property
    def diverged(self) -> bool:
        """Whether the loss is not finite; what such a network gets right, it gets right by chance."""
        return not math.isfinite(self.loss)

    def better_than(self, other: "Score") -> bool:
        """Say whether this score is higher in accuracy, or equal in it and lower in loss; diverged ones are worst."""
        return (not self.diverged, self.accuracy, -self.loss) > (not other.diverged, other.accuracy, -other.loss)


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training came to."""

    epoch: int
    train_loss: float
    validation: Score


class Training:
    """The learning of one network, epoch by epoch; after any epoch it can be put down and taken up again, to the bit.

    Args:
        model: is trained in place, and moves to ``compute.device``.
        epochs: the passes that the learning rate's schedule is made for.
        steps_per_epoch: the batches of one pass.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides dropout.
        trains: ``all`` weights, or all but those of the trunk below the last ``block``, which stays as it is: its
            weights and its statistics.
    """

    def __init__(
        self,
        model: ProgressiveModel,
        *,
        epochs: int,
        steps_per_epoch: int,
        optimiser: Optimiser,
        compute: Compute,
        seed: int,
        trains: Trains,
    ) -> None:
        compute.place(model)
        self.model = model
        self.compute = compute
        self.frozen_depth = max(0, len(model.trunk) - 1) if trains == "block" else 0
        self.history: list[Epoch] = []
        self._optimiser = optimiser
        self._steps_per_epoch = steps_per_epoch
        self._steps = epochs * steps_per_epoch
        self._seed = seed
        for block in model.trunk[: self.frozen_depth]:
            block.requires_grad_(False)
        groups = _weight_groups(model, optimiser.weight_decay)
        self._adam = torch.optim.AdamW(groups, lr=optimiser.learning_rate, fused=True)
        self._total = torch.zeros(())

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
        epoch = len(self.history)
        for group in self._adam.param_groups:
            step = epoch * self._steps_per_epoch + number
            group["lr"] = self._optimiser.learning_rate * one_cycle(step, self._steps)
        with named_random_state(self._seed, "dropout", epoch, number), self.compute.autocast():
            logits = self.model.finish(maps, features, self.frozen_depth)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self._optimiser.label_smoothing)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._total += loss.detach() * len(labels)

    def end_epoch(self, samples: int, validation: Score) -> Epoch:
        """Note what the pass over ``samples`` samples came to; a loss that is not finite counts as infinite."""
        epoch = Epoch(len(self.history) + 1, _finite_or_infinite(float(self._total) / samples), validation)
        self.history.append(epoch)
        return epoch

    def moments(self) -> dict[str, Tensor]:
        """Return the optimiser's memory, which with the weights is all that the next epoch depends on."""
        states = self._adam.state_dict()["state"]
        return {
            f"{name}.{number}": tensor.cpu().contiguous()
            for number in states
            for name, tensor in states[number].items()
        }

    def resume(self, history: Sequence[Epoch], moments: Mapping[str, Tensor]) -> None:
        """Go on after ``history``; the network has the weights of its end already.

        Raises:
            ModelError: ``moments`` are those of another network.
        """
        weights = [weights for group in self._adam.param_groups for weights in group["params"]]
        try:
            for number, tensor in enumerate(weights):
                # In the layout of the weights, which the fused optimiser goes through together with these.
                self._adam.state[tensor] = {
                    "step": moments[f"step.{number}"].to(self.compute.device, copy=True),
                    "exp_avg": torch.empty_like(tensor).copy_(moments[f"exp_avg.{number}"]),
                    "exp_avg_sq": torch.empty_like(tensor).copy_(moments[f"exp_avg_sq.{number}"]),
                }
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"the state of the training does not fit the network ({error})") from None
        self.history = list(history)


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
    first = trainings[0]
    epoch, depth, compute = len(first.history), first.frozen_depth, first.compute
    for training in trainings:
        training.begin_epoch()
    batches = epoch_batches(len(train), batch_size, seed=derive_seed(seed, "batches"), epoch=epoch, shuffle=True)
    for number, indices in enumerate(batches):
        images, labels, features = (part.to(compute.device, non_blocking=True) for part in train.batch(indices))
        with torch.no_grad(), compute.autocast():
            maps = first.model.maps(images, depth)
        for training in trainings:
            training.learn(number, maps, labels, features)
            yield len(labels)
    scores = _scores([training.model for training in trainings], validation, compute, depth)
    for training, score_of_epoch in zip(trainings, scores, strict=True):
        training.end_epoch(len(train), score_of_epoch)


def fit(
    model: ProgressiveModel,
    train: Space_Galaxi,
    validation: Space_Galaxi,
    *,
    epochs: int,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    on_epoch: Callable[[Epoch], None],
    on_batch: Callable[[int], None],
) -> list[Epoch]:
    """Train ``model`` in place, keep the weights of its best epoch, and return what each epoch came to.

    The arguments alone decide every bit of the weights, on machines of the same kind.

    Args:
        model: ends on ``compute.device`` with the weights that scored best on validation.
        train: the samples to learn from, with their augmentation.
        validation: the samples to score each epoch on.
        epochs: passes over ``train``.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides the order of the samples, their augmentation and dropout.
        on_epoch: called after each epoch.
        on_batch: called after each batch with the number of samples in it.

    Raises:
        ModelError: the network was made for other data.
    """
    check_made_for(model, train)
    training = Training(
        model,
        epochs=epochs,
        steps_per_epoch=-(-len(train) // optimiser.batch_size),
        optimiser=optimiser,
        compute=compute,
        seed=seed,
        trains="all",
    )
    best: tuple[Score, dict[str, Tensor]] | None = None
    while len(training.history) < epochs:
        for samples in run_epoch([training], train, validation, batch_size=optimiser.batch_size, seed=seed):
            on_batch(samples)
        epoch = training.history[-1]
        on_epoch(epoch)
        if best is None or epoch.validation.better_than(best[0]):
            best = epoch.validation, copy.deepcopy(model.state_dict())
    if best is not None:
        model.load_state_dict(best[1])
    return training.history


def one_cycle(step: int, steps: int) -> float:
    """Return the share of the highest learning rate at ``step`` of ``steps``, counted from 0.

    It rises in a line over the first quarter and falls as a half cosine, and is never 0 while there is a step left.
    """
    rising = max(1, round(_WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step + 1 - rising) / (steps + 1 - rising))) / 2


def _weight_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the weights that learn: those that decay and those that do not."""
    learning = [weights for weights in model.parameters() if weights.requires_grad]
    decaying = [weights for weights in learning if weights.ndim > 1]
    others = [weights for weights in learning if weights.ndim <= 1]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def predict(model: ProgressiveModel, data: Space_Galaxi, compute: Compute) -> Tensor:
    """Return the logits of every sample of ``data``, float32 ``[N, classes]`` on the CPU, without augmentation.

    Raises:
        ModelError: the network was made for other data.
    """
    check_made_for(model, data)
    compute.place(model)
    return _predict([model], data, compute, depth=0)[0]


def score(model: ProgressiveModel, data: Space_Galaxi, compute: Compute) -> Score:
    """Return accuracy and cross-entropy of ``model`` on ``data``; a loss that is not finite counts as infinite.

    Raises:
        ModelError: the network was made for other data.
    """
    check_made_for(model, data)
    compute.place(model)
    return _scores([model], data, compute, depth=0)[0]


def check_made_for(model: ProgressiveModel, data: Space_Galaxi) -> None:
    """Check that ``model`` was made for such data.

    Raises:
        ModelError: it was not. A network of other classes would run, and its answers would be taken for these ones.
    """
    of_data = Inputs(data.stamp_shape, tuple(data.feature_names), tuple(data.classes))
    for what in ("stamp_shape", "features", "classes"):
        made_for, given = getattr(model.inputs, what), getattr(of_data, what)
        if made_for != given:
            raise ModelError(
                f"the network was made for {what.replace('_', ' ')} {_listed(made_for)}, "
                f"but the survey has {_listed(given)}; search again"
            )


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "none"


def _predict(models: Sequence[ProgressiveModel], data: Space_Galaxi, compute: Compute, depth: int) -> list[Tensor]:
    """Return each network's logits; the first ``depth`` blocks, the same in all, are computed once."""
    for model in models:
        model.eval()
    plain = data.without_augmentation()
    # Whole from the start: small pieces that stay among large ones keep the memory of those from being used again.
    logits = [torch.empty(len(data), len(data.classes)) for _ in models]
    done = 0
    for indices in epoch_batches(len(plain), _EVALUATION_BATCH, seed=0, epoch=0, shuffle=False):
        batch = plain.batch(indices)
        # Not around the whole function: weights that are placed in inference mode could not be trained afterwards.
        with torch.inference_mode(), compute.autocast():
            maps = models[0].maps(batch.images.to(compute.device), depth)
            features = batch.features.to(compute.device)
            for model, whole in zip(models, logits, strict=True):
                whole[done : done + len(indices)] = model.finish(maps, features, depth).float()
        done += len(indices)
    return logits


def _scores(models: Sequence[ProgressiveModel], data: Space_Galaxi, compute: Compute, depth: int) -> list[Score]:
    scores = []
    for logits in _predict(models, data, compute, depth):
        right = int((logits.argmax(dim=1) == data.labels).sum())
        loss = float(functional.cross_entropy(logits.double(), data.labels))
        scores.append(Score(right / len(data), _finite_or_infinite(loss)))
    return scores


def _finite_or_infinite(loss: float) -> float:
    """Return ``loss``, infinite where training diverged, so that it compares and sorts."""
    return loss if math.isfinite(loss) else math.inf
