"""What networks answer, and how well."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import Ensemble, Network
from spacewarps.model.network import Inputs, ProgressiveModel
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.loaders import epoch_batches
from spacewarps.survey.samples import Samples
from spacewarps.training.compute import Compute
from spacewarps.training.score import Outcomes, Score, finite_or_infinite

# Nothing is kept for a gradient, so larger batches fit where training's do.
_EVALUATION_BATCH = 256


def predict(model: Network, data: Samples, compute: Compute) -> Tensor:
    """Return the logits of every sample of ``data``, float32 ``[N, classes]`` on the CPU, without augmentation.

    Those of an ensemble are its log probabilities. Labels are not needed.

    Raises:
        ModelError: the network was made for other data.
    """
    check_made_for(model, data)
    compute.place(model)
    if isinstance(model, ProgressiveModel):
        return _predict([model], data, compute, depth=0)[0]
    # Batch by batch: the answers of all members in all orientations could be more than memory holds.
    whole = torch.empty(len(data), len(model.inputs.classes))
    done = 0
    for logits in _answers(model, data, compute):
        whole[done : done + logits.shape[1]] = model.combine(logits)
        done += logits.shape[1]
    return whole


def predict_probabilities(model: Network, data: Samples, compute: Compute) -> NDArray[np.float64]:
    """Return the probability of each class for every sample of ``data``, ``[N, classes]``, as :func:`predict` does.

    Raises:
        ModelError: the network was made for other data.
    """
    probabilities: NDArray[np.float64] = predict(model, data, compute).double().softmax(dim=1).numpy()
    return probabilities


def score(model: Network, data: Space_Galaxi, compute: Compute) -> Score:
    """Return accuracy and cross-entropy of ``model`` on ``data``; a loss that is not finite counts as infinite.

    Raises:
        ModelError: the network was made for other data.
    """
    return score_of(predict(model, data, compute), data.labels)


def score_of(logits: Tensor, labels: Tensor) -> Score:
    """Return what ``logits`` or log probabilities, ``[N, classes]``, come to beside the labels, ``[N]``."""
    right = int((logits.argmax(dim=1) == labels).sum())
    loss = float(functional.cross_entropy(logits.double(), labels))
    return Score(right / len(labels), finite_or_infinite(loss))


def predict_answers(model: Ensemble, data: Samples, compute: Compute) -> Tensor:
    """Return the logits of every member in every orientation, float32 ``[answers, N, classes]`` on the CPU.

    Raises:
        ModelError: the network was made for other data.
    """
    check_made_for(model, data)
    compute.place(model)
    return torch.cat(list(_answers(model, data, compute)), dim=1)


def check_made_for(model: Network, data: Samples) -> None:
    """Check that ``model`` was made for such data, and for its classes where it has labels.

    Raises:
        ModelError: it was not. A network of other classes would run, and its answers would be taken for these ones.
    """
    classes = tuple(data.classes) if isinstance(data, Space_Galaxi) else model.inputs.classes
    of_data = Inputs(data.stamp_shape, tuple(data.feature_names), classes, data.mask_channel)
    if model.inputs.mask_channel != of_data.mask_channel:
        made_for, given = ("a mask", "none") if model.inputs.mask_channel else ("no mask", "one")
        raise ModelError(f"the network was made for stamps with {made_for}, but the survey has {given}; search again")
    for what in ("stamp_shape", "features", "classes"):
        made_for, given = getattr(model.inputs, what), getattr(of_data, what)
        if made_for != given:
            raise ModelError(
                f"the network was made for {what.replace('_', ' ')} {_listed(made_for)}, "
                f"but the survey has {_listed(given)}; search again"
            )


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "none"


def _predict(models: Sequence[ProgressiveModel], data: Samples, compute: Compute, depth: int) -> list[Tensor]:
    """Return each network's logits; the first ``depth`` blocks, the same in all, are computed once."""
    for model in models:
        model.eval()
    # Whole from the start: small pieces that stay among large ones keep the memory of those from being used again.
    logits = [torch.empty(len(data), len(model.inputs.classes)) for model in models]
    done = 0
    for indices in epoch_batches(len(data), _EVALUATION_BATCH, seed=0, epoch=0, shuffle=False):
        images, features = data.seen(indices)
        # Not around the whole function: weights that are placed in inference mode could not be trained afterwards.
        with torch.inference_mode(), compute.autocast():
            maps = models[0].maps(images.to(compute.device), depth)
            for model, whole in zip(models, logits, strict=True):
                whole[done : done + len(indices)] = model.finish(maps, features.to(compute.device), depth).float()
        done += len(indices)
    return logits


def _answers(model: Ensemble, data: Samples, compute: Compute) -> Iterator[Tensor]:
    """Yield the logits of one batch after the other, float32 ``[answers, B, classes]`` on the CPU."""
    model.eval()
    for indices in epoch_batches(len(data), _EVALUATION_BATCH, seed=0, epoch=0, shuffle=False):
        images, features = (part.to(compute.device) for part in data.seen(indices))
        with torch.inference_mode(), compute.autocast():
            logits = torch.stack([answer.float() for answer in model.answers(images, features)]).cpu()
        yield logits


def score_side_by_side(
    models: Sequence[ProgressiveModel], data: Space_Galaxi, compute: Compute, depth: int
) -> list[tuple[Score, Outcomes]]:
    """Return how each network does, in all and on each sample.

    The first ``depth`` blocks, the same in all, are computed once.
    """
    scores = []
    for logits in _predict(models, data, compute, depth):
        losses = functional.cross_entropy(logits.double(), data.labels, reduction="none")
        outcomes = Outcomes.of(losses.numpy(), (logits.argmax(dim=1) == data.labels).numpy())
        scores.append((score_of(logits, data.labels), outcomes))
    return scores
