"""Space Warps grows convolutional networks for astronomical stamps, one block at a time."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacewarps.estimator import SpaceWarpsClassifier
    from spacewarps.model.network import ProgressiveModel
    from spacewarps.model.storage import load_model
    from spacewarps.search.progressive import progressive_architecture_search
    from spacewarps.search.settings import SearchSettings, WarmStart
    from spacewarps.survey.augmentation import Augmentation
    from spacewarps.survey.columns import Columns
    from spacewarps.survey.dataset import Space_Galaxi
    from spacewarps.survey.loaders import create_train_val_dataloaders
    from spacewarps.training.settings import Optimiser

__all__ = [
    "Augmentation",
    "Columns",
    "Optimiser",
    "ProgressiveModel",
    "SearchSettings",
    "SpaceWarpsClassifier",
    "Space_Galaxi",
    "WarmStart",
    "create_train_val_dataloaders",
    "load_model",
    "progressive_architecture_search",
]

_HOME = {
    "Augmentation": "spacewarps.survey.augmentation",
    "Columns": "spacewarps.survey.columns",
    "Optimiser": "spacewarps.training.settings",
    "ProgressiveModel": "spacewarps.model.network",
    "SearchSettings": "spacewarps.search.settings",
    "SpaceWarpsClassifier": "spacewarps.estimator",
    "Space_Galaxi": "spacewarps.survey.dataset",
    "WarmStart": "spacewarps.search.settings",
    "create_train_val_dataloaders": "spacewarps.survey.loaders",
    "load_model": "spacewarps.model.storage",
    "progressive_architecture_search": "spacewarps.search.progressive",
}


def __getattr__(name: str) -> Any:
    # Each is imported when it is first asked for: the command line checks params without waiting for torch.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
