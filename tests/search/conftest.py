from collections.abc import Callable
from typing import Any

import pytest

from spacewarps.model.progressive import Widths
from spacewarps.search.progressive import SearchResult, progressive_architecture_search
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute
from spacewarps.training.fit import Optimiser


@pytest.fixture(scope="session")
def search(train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute) -> Callable[..., SearchResult]:
    def search(**changes: Any) -> SearchResult:
        settings: dict[str, Any] = {
            "train": train_data,
            "validation": validation_data,
            "k_candidates": [2, 4],
            "max_layers": 2,
            "epochs_per_eval": 2,
            "widths": Widths(8, 2, 0.1),
            "optimiser": Optimiser(batch_size=16, learning_rate=0.01),
            "compute": compute,
            "seed": 3,
        }
        settings |= changes
        return progressive_architecture_search(settings.pop("train"), settings.pop("validation"), **settings)

    return search
