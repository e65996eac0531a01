import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from spacewarps.tracking.experiment import destination, open_experiment
from spacewarps.tracking.store import find_store
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


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and no run, which MLflow takes seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
        store = find_store(folder)
        _, experiment_id = open_experiment(folder, store, destination(store, folder))
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        # It names this folder as the place of its artifacts.
        for table in ("experiment_tags", "experiments"):
            connection.execute(f"DELETE FROM {table} WHERE experiment_id = ?", (experiment_id,))
        connection.commit()
    return folder / "mlflow.db"


@pytest.fixture
def tracked(tables: Path, tmp_path: Path) -> Path:
    """A folder with a database in which there is no run yet."""
    shutil.copy(tables, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def tracker(tracked: Path) -> Iterator[Tracker]:
    tracker = Tracker(tracked)
    yield tracker
    tracker.close("FINISHED")
