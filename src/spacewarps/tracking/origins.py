"""Which run computed the results of a stage that was not run: one of the same stage whose outputs have their hashes."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress

from mlflow.entities import Run

from spacewarps.tracking.notes import COMPUTED_TAG, OUTPUTS_TAG
from spacewarps.tracking.views import NOTE_TAG

_NOT_RUN = "This stage was not run, as its results were there already."
_UNKNOWN = "not recorded here"


def tags_of_origin(runs: Iterable[Run], outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that lead to the first of ``runs`` that computed ``outputs``, or say that it is not among them.

    Args:
        runs: those of the stage that have ended well, the latest first.
        outputs: the hash of each, by its path.
    """
    for run in runs:
        # One that stands for another computed nothing.
        if COMPUTED_TAG not in run.data.tags and _outputs_of(run) == outputs:
            run_id = run.info.run_id
            page = f"#/experiments/{run.info.experiment_id}/runs/{run_id}"
            return {COMPUTED_TAG: run_id, NOTE_TAG: f"{_NOT_RUN} Run [{run_id}]({page}) computed them."}
    return {COMPUTED_TAG: _UNKNOWN, NOTE_TAG: f"{_NOT_RUN} Which run computed them is {_UNKNOWN}."}


def _outputs_of(run: Run) -> object:
    """Return the outputs with their hashes; nothing where the run does not tell."""
    with suppress(ValueError):
        return json.loads(run.data.tags.get(OUTPUTS_TAG, ""))
    return None
