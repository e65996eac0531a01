"""How a network is trained to the end, and the best of its epochs kept."""

import copy
from collections.abc import Callable

from torch import Tensor

from spacewarps.model.network import ProgressiveModel
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute
from spacewarps.training.prediction import check_made_for
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import Optimiser
from spacewarps.training.training import Training, run_epoch


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
