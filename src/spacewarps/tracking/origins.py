"""Which run computed the results of a stage that was not run: one of the same stage whose outputs have their hashes.

What leads from a pipeline's run, and from that of a stage, to it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from mlflow.entities import Run

from spacewarps.tracking.notes import ARCHITECTURE_TAG, COMPUTED_TAG, DATA_TAG, OUTPUTS_TAG, STAGE_TAG
from spacewarps.tracking.views import NOTE_TAG

_NOT_RUN = "This stage was not run, as its results were there already."
#: What a pipeline's description says of a stage that had others than those on the pipeline's run.
OTHER_PARAMS = "ran with other params than stand here"
_OF_RESULTS = (ARCHITECTURE_TAG, DATA_TAG)
_UNKNOWN = "not recorded here"


def find_origin(search: Callable[[str], Iterable[Run]], stage: str, outputs: Mapping[str, str], by: int) -> Run | None:
    """Return the latest run of ``stage`` that had computed ``outputs`` by a time, if there is one.

    Args:
        search: finds runs by a filter of MLflow's, the latest first.
        stage: its name.
        outputs: the hash of each, by its path.
        by: in milliseconds since 1970.

    Raises:
        Exception: whatever MLflow raises where it fails.
    """
    # What came later, as the same stage run again, computed nothing for one that was not run then.
    ended = f"tags.`{STAGE_TAG}` = '{stage}' AND attributes.status = 'FINISHED' AND attributes.end_time <= {by}"
    # One that stands for another computed nothing.
    return next(
        (run for run in search(ended) if COMPUTED_TAG not in run.data.tags and outputs_of(run) == outputs), None
    )


def tags_of_origin(run: Run | None) -> dict[str, str]:
    """Return the tags that lead to the run that computed the results of a stage, or say that it is not known."""
    if run is None:
        return {COMPUTED_TAG: _UNKNOWN, NOTE_TAG: f"{_NOT_RUN} Which run computed them is {_UNKNOWN}."}
    return {COMPUTED_TAG: run.info.run_id, NOTE_TAG: f"{_NOT_RUN} Run {_link_to(run)} computed them."}


def tags_of_results_there(computed: Run) -> dict[str, str]:
    """Return the tags of a pipeline's run that ran no stage, as another had computed its results.

    Args:
        computed: the other pipeline's run; its description, and the picture there, are of the same results.
    """
    said = computed.data.tags.get(NOTE_TAG, "").splitlines()
    # Of the params on that run, which are others here.
    same = [line for line in said if OTHER_PARAMS not in line]
    why = f"No stage was run, as all results were there already. They came of run {_link_to(computed)}:"
    of_results = {tag: value for tag in _OF_RESULTS if (value := computed.data.tags.get(tag))}
    return {NOTE_TAG: "\n".join([why, "", *same]), **of_results}


def _link_to(run: Run) -> str:
    """Return a link to a run, for the Markdown of MLflow's own pages."""
    return f"[{run.info.run_id}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"


def outputs_of(run: Run) -> dict[str, str] | None:
    """Return the outputs of a stage with their hashes, as its run tells them; None where it does not."""
    with suppress(ValueError):
        told = json.loads(run.data.tags.get(OUTPUTS_TAG, ""))
        return told if isinstance(told, dict) else None
    return None
