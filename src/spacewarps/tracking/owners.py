"""Which process a run belongs to, so that no run of one that was killed stays RUNNING."""

from mlflow.tracking import MlflowClient

from spacewarps.processes import has_ended
from spacewarps.progress import say
from spacewarps.tracking.notes import OWNER_TAG


def end_abandoned_runs(client: MlflowClient, experiment_id: str) -> None:
    """End as KILLED what is RUNNING in the experiment but belongs to a process that has ended.

    Raises:
        Exception: whatever MLflow raises where it fails.
    """
    found = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
    abandoned = [run.info.run_id for run in found if has_ended(run.data.tags.get(OWNER_TAG, ""))]
    for run_id in abandoned:
        client.set_terminated(run_id, "KILLED")
    say_killed(len(abandoned))


def say_killed(count: int) -> None:
    """Tell the user how many runs a killed process has left."""
    if count:
        runs = f"{count} runs are" if count > 1 else "1 run is"
        say(f"MLflow: {runs} KILLED now, as the process that wrote there has ended")
