"""Samples of which a part is hidden, to see what it brings."""

import copy

import numpy as np
import torch

from spacewarps.survey.dataset import Space_Galaxi


def without_features(data: Space_Galaxi) -> Space_Galaxi:
    """Return the same samples, of which only the stamps are seen."""
    blind = copy.copy(data)
    blind.feature_names, blind.features = [], torch.empty(len(data), 0)
    return blind


def without_stamps(data: Space_Galaxi) -> Space_Galaxi:
    """Return the same samples, of which only the features are seen: each stamp is one empty pixel."""
    blind = copy.copy(data)
    blind.packed = np.zeros((len(data), 1, 1, 1), dtype=np.uint8)
    blind.rows, blind.augmentation, blind.mask_channel = np.arange(len(data)), None, False
    return blind


def without_sources(data: Space_Galaxi) -> Space_Galaxi:
    """Return the same samples, each taken for a source of its own."""
    blind = copy.copy(data)
    blind.samples = data.samples.assign(source=[f"row {number}" for number in range(len(data))])
    return blind
