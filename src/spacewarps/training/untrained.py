"""Networks that have yet to learn from a data set."""

from collections.abc import Sequence

from spacewarps.model.network import Inputs, ProgressiveModel, build_network
from spacewarps.model.normalisers import stamps_to_fit
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import named_random_state


def inputs_of(data: Space_Galaxi) -> Inputs:
    """Return what a network for ``data`` sees and tells apart."""
    return Inputs(data.stamp_shape, tuple(data.feature_names), tuple(data.classes), data.mask_channel)


def new_network(
    train: Space_Galaxi, blocks: Sequence[BlockSpec], configuration: Configuration, seed: int
) -> ProgressiveModel:
    """Return a network of ``blocks`` with new weights, its normalisers fitted to ``train``."""
    with named_random_state(seed, "initialisation"):
        model = build_network(inputs_of(train), blocks, configuration)
    fit_normalisers(model, train)
    return model


def new_start(model: ProgressiveModel, train: Space_Galaxi, seed: int) -> ProgressiveModel:
    """Return a network of the architecture of ``model`` with new weights, its normalisers fitted to ``train``."""
    with named_random_state(seed, "initialisation"):
        fresh = model.with_new_weights()
    fit_normalisers(fresh, train)
    return fresh


def fit_normalisers(model: ProgressiveModel, train: Space_Galaxi) -> None:
    """Fit the normalisers of ``model``, in place, to what it is to learn from."""
    some = train.seen(list(stamps_to_fit(len(train))))
    model.fit_normalisers(some.images.numpy(), train.features)
