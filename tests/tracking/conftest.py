import os

import pytest


@pytest.fixture(autouse=True)
def no_settings_of_mlflow_or_dvc(monkeypatch):
    """Hide the environment's settings, and what MLflow sets for the processes that it starts."""
    before = dict(os.environ)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)
