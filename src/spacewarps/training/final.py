"""The final network: one training or several, and what they answer on samples that they did not learn from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import Ensemble, mean_log_probabilities
from spacewarps.model.network import ProgressiveModel
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.calibration import fit_temperature
from spacewarps.training.compute import Compute
from spacewarps.training.conformal import class_thresholds
from spacewarps.training.fit import fit, fit_without_validation
from spacewarps.training.prediction import predict_answers
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import FinalSettings, Optimiser


class Part(NamedTuple):
    """What one network learns from, and the samples that are held out from it, if there are any."""

    train: Space_Galaxi
    held_out: Space_Galaxi | None


@dataclass(frozen=True)
class Member:
    """A network that has learned.

    Args:
        network: with the weights that were kept.
        losses: the training loss of each epoch.
        history: each epoch with its score on what was held out; empty where nothing was.
    """

    network: ProgressiveModel
    losses: list[float]
    history: list[Epoch]

    @property
    def best(self) -> Epoch:
        """The epoch that scored best, the first of equal ones."""
        best = self.history[0]
        for epoch in self.history:
            best = epoch if epoch.validation.better_than(best.validation) else best
        return best


@dataclass(frozen=True)
class HeldOut:
    """What networks answer on samples that they did not learn from.

    Args:
        logits: in each orientation, ``[orientations, N, classes]``.
        labels: ``[N]``.
    """

    logits: Tensor
    labels: Tensor

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """Return the probability of each class, ``[N, classes]``, rounded as those of the final network."""
        log_probabilities = mean_log_probabilities(self.logits, temperature).float()
        probabilities: NDArray[np.float64] = log_probabilities.double().softmax(dim=1).numpy()
        return probabilities

    def score(self, temperature: float) -> Score:
        """Return how well the mean of the answers does at ``temperature``."""
        log_probabilities = mean_log_probabilities(self.logits, temperature)
        right = int((log_probabilities.argmax(dim=1) == self.labels).sum())
        return Score(right / len(self.labels), float(functional.nll_loss(log_probabilities, self.labels)))


@dataclass(frozen=True)
class Final:
    """The final network, and how it came about.

    Args:
        network: answers as one, at its temperature.
        members: each network that learned.
        score: on what was held out, out of all members; none where nothing was.
        uncalibrated: the same without the temperature.
        thresholds: of prediction sets, one for each class; none where nothing was held out.
        held_out: the probabilities of what was held out, part after part, ``[N, classes]``; none where nothing was.
    """

    network: Ensemble
    members: list[Member]
    score: Score | None
    uncalibrated: Score | None
    thresholds: tuple[float, ...] | None
    held_out: NDArray[np.float64] | None


def learn(
    model: ProgressiveModel,
    part: Part,
    *,
    epochs: int,
    average: float,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    on_epoch: Callable[[int, float, Score | None], None],
    on_batch: Callable[[int], None],
) -> Member:
    """Train ``model`` in place on ``part``, to the epoch that is best on what is held out; without any, to the end.

    Args:
        model: is trained in place.
        part: the samples.
        epochs: passes over the samples to learn from.
        average: the decay of the moving average of the weights; 0 for none.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides the order of the samples, their augmentation and dropout.
        on_epoch: called after each epoch with its number, its training loss, and its score where there is one.
        on_batch: called after each batch with the number of samples in it.

    Raises:
        ModelError: the training diverged, or the network was made for other data.
    """
    if part.held_out is None:
        losses = fit_without_validation(
            model,
            part.train,
            epochs=epochs,
            optimiser=optimiser,
            compute=compute,
            seed=seed,
            average=average,
            on_epoch=lambda epoch, loss: on_epoch(epoch, loss, None),
            on_batch=on_batch,
        )
        if not all(weights.isfinite().all() for weights in model.state_dict().values()):
            raise ModelError("the training diverged; lower `learning_rate`")
        return Member(model, losses, [])
    history = fit(
        model,
        part.train,
        part.held_out,
        epochs=epochs,
        optimiser=optimiser,
        compute=compute,
        seed=seed,
        average=average,
        on_epoch=lambda epoch: on_epoch(epoch.epoch, epoch.train_loss, epoch.validation),
        on_batch=on_batch,
    )
    member = Member(model, [epoch.train_loss for epoch in history], history)
    if member.best.validation.diverged:
        raise ModelError("the training diverged in every epoch; lower `learning_rate`")
    return member


def answer_as_one(members: Sequence[Member], parts: Sequence[Part], settings: FinalSettings, compute: Compute) -> Final:
    """Return the final network: ``members`` that answer as one, at a temperature fitted to what was held out.

    Args:
        members: networks that have learned.
        parts: what each of them learned from, and what was held out from it.
        settings: how the final network answers.
        compute: where, and in which precision.

    Raises:
        ModelError: the stamps are not square, but are to be looked at in several orientations.
    """
    network = Ensemble([member.network for member in members], settings.orientations)
    held_out = [part.held_out for part in parts if part.held_out is not None]
    if not held_out:
        return Final(network, list(members), None, None, None, None)
    answers = answers_held_out(network.networks, held_out, compute, network.orientations)
    if settings.calibration == "temperature":
        network.temperature = fit_temperature(answers.logits, answers.labels)
    probabilities = answers.probabilities(network.temperature)
    thresholds = class_thresholds(probabilities, answers.labels.numpy(), settings.coverage)
    score, uncalibrated = answers.score(network.temperature), answers.score(1.0)
    return Final(network, list(members), score, uncalibrated, thresholds, probabilities)


def answers_held_out(
    networks: Sequence[ProgressiveModel], data: Sequence[Space_Galaxi], compute: Compute, orientations: int
) -> HeldOut:
    """Return what each network answers on the samples that were held out from it, one after the other."""
    answers = [
        predict_answers(Ensemble([network], orientations), held_out, compute)
        for network, held_out in zip(networks, data, strict=True)
    ]
    return HeldOut(torch.cat(answers, dim=1), torch.cat([held_out.labels for held_out in data]))
