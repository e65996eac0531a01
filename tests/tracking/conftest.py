import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacewarps.tracking.pipeline_run import open_tracker
from spacewarps.tracking.tracker import Tracker


@pytest.fixture(autouse=True)
def no_settings_of_mlflow_or_dvc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the environment's settings, and what MLflow sets for the processes that it starts."""
    before = dict(os.environ)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return open_tracker(tmp_path)
