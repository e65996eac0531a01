from mlflow.entities import Run

from spacewarps.tracking.tracker import Tracker


def run_of(tracker: Tracker, run_id: str | None) -> Run:
    """Return what MLflow shows of a run, which it must have taken a note of."""
    assert run_id is not None
    return tracker.client.get_run(run_id)
