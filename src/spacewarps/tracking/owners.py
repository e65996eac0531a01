"""Which process a run belongs to, so that no run of one that was killed stays RUNNING."""

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spacewarps.processes import has_ended
from spacewarps.progress import say
from spacewarps.tracking.notes import OWNER_TAG
from spacewarps.tracking.queries import find_runs

_RUNNING = "attributes.status = 'RUNNING'"


def end_abandoned_runs(client: MlflowClient, experiment_id: str) -> None:
    """End as KILLED what is RUNNING in the experiment but belongs to a process that has ended.

    Raises:
        Exception: whatever MLflow raises where it fails.
    """
    count = 0
    # Whose process has ended is collected first, as what is ended is no longer on the pages.
    for run_id in [run.info.run_id for run in find_runs(client, experiment_id, _RUNNING) if _is_abandoned(run)]:
        # Another stage may have taken the run up meanwhile.
        if _is_abandoned(client.get_run(run_id)):
            client.set_terminated(run_id, "KILLED")
            count += 1
    say_killed(count)


def _is_abandoned(run: Run) -> bool:
    return run.info.status == "RUNNING" and has_ended(run.data.tags.get(OWNER_TAG, "")) is True


def say_killed(count: int) -> None:
    """Tell the user how many runs a killed process has left."""
    if count:
        runs = f"{count} runs are" if count > 1 else "1 run is"
        say(f"MLflow: {runs} KILLED now, as the process that wrote there has ended")
