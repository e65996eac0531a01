import time
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spacewarps.tracking.experiment import destination, open_experiment
from spacewarps.tracking.store import find_store
from spacewarps.tracking.tracker import Tracker


def client_of(tracker: Tracker) -> MlflowClient:
    """Return what asks the store of a tracker, once it holds all that the tracker has noted."""
    deadline = time.monotonic() + 60
    while tracker.spool.undelivered:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return MlflowClient(find_store(tracker.spool.folder.parents[2]).uri)


def all_runs(tracker: Tracker) -> list[Run]:
    """Return what MLflow shows of the experiment."""
    client = client_of(tracker)
    experiment = client.get_experiment_by_name("space-warps")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def run_of(tracker: Tracker, run: str) -> Run:
    """Return what MLflow shows of a run, by its id in the notes."""
    client = client_of(tracker)
    return client.get_run(tracker.spool.runs[run])


def experiment_of(root: Path) -> tuple[MlflowClient, str]:
    """Open the experiment of the project in ``root``; return what asks the store, and the experiment's id."""
    store = find_store(root)
    return open_experiment(root, store, destination(store, root))
