"""How a network is trained to the end, and which weights of it are kept."""

import copy
from collections.abc import Callable, Iterator

from torch import Tensor

from spacewarps.model.network import ProgressiveModel
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import check_made_for, score
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import Optimiser
from spacewarps.training.training import Training, run_pass


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
    average: float = 0.0,
) -> list[Epoch]:
    """Train ``model`` in place, keep the weights of its best epoch, and return what each epoch came to.

    The arguments alone decide every bit of the weights, on machines of the same kind.

    Args:
        model: ends on ``compute.device`` with the weights that are kept.
        train: the samples to learn from, with their augmentation.
        validation: the samples to score each epoch on.
        epochs: passes over ``train``.
        optimiser: how weights change.
        compute: where, and in which precision.
        seed: decides the order of the samples, their augmentation and dropout.
        on_epoch: called after each epoch.
        on_batch: called after each batch with the number of samples in it.
        average: the decay of a moving average of the weights
            (:func:`~spacewarps.training.training.move_average`), which then is what is scored and kept; 0 for the
            weights themselves.

    Raises:
        ModelError: the network was made for other data.
    """
    history: list[Epoch] = []
    best: tuple[Score, dict[str, Tensor]] | None = None
    passes = _passes(model, train, epochs, optimiser, compute, seed, average, on_batch)
    for loss, learned in passes:
        epoch = Epoch(len(history) + 1, loss, score(learned, validation, compute))
        history.append(epoch)
        on_epoch(epoch)
        if best is None or epoch.validation.better_than(best[0]):
            best = epoch.validation, copy.deepcopy(learned.state_dict())
    if best is not None:
        model.load_state_dict(best[1])
    return history


def fit_without_validation(
    model: ProgressiveModel,
    train: Space_Galaxi,
    *,
    epochs: int,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    on_epoch: Callable[[int, float], None],
    on_batch: Callable[[int], None],
    average: float = 0.0,
) -> list[float]:
    """Train ``model`` in place to the end of its schedule, and return the training loss of each epoch.

    Arguments, bits and errors are those of :func:`fit`; ``on_epoch`` is given the epoch's number and loss.
    """
    losses: list[float] = []
    for loss, learned in _passes(model, train, epochs, optimiser, compute, seed, average, on_batch):
        losses.append(loss)
        on_epoch(len(losses), loss)
        if len(losses) == epochs:
            model.load_state_dict(learned.state_dict())
    return losses


def _passes(
    model: ProgressiveModel,
    train: Space_Galaxi,
    epochs: int,
    optimiser: Optimiser,
    compute: Compute,
    seed: int,
    average: float,
    on_batch: Callable[[int], None],
) -> Iterator[tuple[float, ProgressiveModel]]:
    """Yield, after each pass, its training loss and what was learned: ``model`` itself, or the average."""
    check_made_for(model, train)
    training = Training(
        model,
        epochs=epochs,
        labels=train.labels,
        optimiser=optimiser,
        compute=compute,
        seed=seed,
        average=average,
    )
    for _ in range(epochs):
        for samples in run_pass([training], train, batch_size=optimiser.batch_size, seed=seed):
            on_batch(samples)
        yield training.end_pass(len(train)), training.learned
