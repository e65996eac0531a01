"""Which process a run belongs to, so that no run of one that was killed stays RUNNING."""

from spacewarps.processes import has_ended
from spacewarps.progress import say
from spacewarps.tracking.tracker import OWNER_TAG, Tracker


def end_abandoned_runs(tracker: Tracker) -> None:
    """End as KILLED what is RUNNING in the experiment but belongs to a process that has ended."""
    found = tracker.attempt(
        lambda: tracker.client.search_runs([tracker.experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
    )
    abandoned = [run.info.run_id for run in found or () if has_ended(run.data.tags.get(OWNER_TAG, ""))]
    for run_id in abandoned:
        tracker.end_run(run_id, "KILLED")
    if abandoned:
        count = len(abandoned)
        runs = f"{count} runs are" if count > 1 else "1 run is"
        say(f"MLflow: {runs} KILLED now, as the process that wrote there has ended")
