from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from spacewarps.model.settings import Configuration
from spacewarps.search.journal import Journal
from spacewarps.search.progressive import SearchResult, progressive_architecture_search
from spacewarps.search.settings import SearchSettings
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute
from spacewarps.training.settings import Optimiser


@pytest.fixture(scope="session")
def search(train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute) -> Callable[..., SearchResult]:
    """Run a small search; what changes may be its settings or other arguments."""

    def search(**changes: Any) -> SearchResult:
        arguments: dict[str, Any] = {
            "train": train_data,
            "validation": validation_data,
            "k_candidates": (2, 4),
            "max_layers": 2,
            "epochs_per_eval": 2,
            "decides": "accuracy",
            "patience": 1,
            "configuration": Configuration(8, 2, 0.1),
            "optimiser": Optimiser(batch_size=16, learning_rate=0.01),
            "compute": compute,
            "seed": 3,
        }
        arguments |= changes
        if arguments.pop("checkpoints", False):
            arguments["journal"] = arguments.get("journal") or Journal()
            arguments["journal"].every_epoch = True
        names = [field.name for field in fields(SearchSettings) if field.name in arguments]
        settings = SearchSettings(**{name: arguments.pop(name) for name in names})
        return progressive_architecture_search(
            arguments.pop("train"), arguments.pop("validation"), settings, **arguments
        )

    return search
