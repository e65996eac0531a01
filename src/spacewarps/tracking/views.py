"""What MLflow's pages show of an experiment without being told: its kind, a note, and views with columns and charts.

MLflow keeps all of it in tags of the experiment. Without a kind it asks what the experiment is for and opens on traces.
A view is what its page writes when a user saves one: the state of the page, as JSON, in an envelope with a name.
"""

import json
from collections.abc import Iterable
from typing import Any

from spacewarps.tracking.groups import BASELINE, INTERVAL, TEST

KIND_TAG, NOTE_TAG = "mlflow.experimentKind", "mlflow.note.content"
#: On a candidate: the name of the pipeline's run, a DVC experiment where it is one.
PIPELINE_NAME_TAG = "spacewarps.experiment"
_VIEW_TAG = "mlflow.sharedViewState."
_RESULTS, _CANDIDATES = "space-warps-results", "space-warps-candidates"
# The menu shows the latest first.
_SHOWN_FIRST, _SHOWN_SECOND = 1, 0

_NOTE = """\
Progressive architecture search with Space Warps: each top run is a run of the pipeline, below it a run for each stage,
below `search` one for each step, below a step one for each candidate.

The menu beside the title holds two views:

- **Results**: one row for each run of the pipeline, with the test result and the architecture. Its name leads to its
  description: the architecture, what each step decided, and what can be done next.
- **Candidates**: every block that was on trial, whether it joined, its loss, size and time; as charts it compares them.
"""


def experiment_tags() -> dict[str, str]:
    """Return the tags of an experiment that is the project's own."""
    return {NOTE_TAG: _NOTE, **tags_of_any_experiment()}


def tags_of_any_experiment() -> dict[str, str]:
    """Return the tags that suit any experiment which the project writes to."""
    results = _view(
        "Results",
        _SHOWN_FIRST,
        {"searchFilter": "tags.`spacewarps.pipeline` LIKE '%'"},
        {
            f"metrics.`{TEST}/accuracy`": 110,
            f"metrics.`{TEST}/log_loss`": 110,
            "tags.`spacewarps.architecture`": 280,
            f"metrics.`{INTERVAL}/accuracy_low`": 190,
            f"metrics.`{INTERVAL}/accuracy_high`": 190,
            f"metrics.`{BASELINE}/features_alone.accuracy`": 270,
        },
        [],
    )
    candidates = _view(
        "Candidates",
        _SHOWN_SECOND,
        # By date, they would stand folded below their steps, and charts leave out what is folded.
        {
            "searchFilter": "tags.`spacewarps.level` = 'candidate'",
            "orderByKey": "metrics.`val_loss`",
            "orderByAsc": True,
        },
        {
            "params.`step`": 70,
            "params.`joined`": 80,
            "metrics.`val_loss`": 110,
            "metrics.`val_accuracy`": 110,
            "metrics.`trainable_params`": 130,
            "metrics.`seconds`": 90,
            f"tags.`{PIPELINE_NAME_TAG}`": 150,
            "params.`kind`": 90,
            "params.`k`": 60,
            "params.`kernel_size`": 100,
        },
        [
            {
                "type": "PARALLEL",
                "displayName": "every candidate",
                "selectedParams": ["step", "kind", "k", "joined"],
                # The last one is what lines are coloured by.
                "selectedMetrics": ["trainable_params", "seconds", "val_accuracy", "val_loss"],
                "showAllRuns": False,
            },
            {
                "type": "SCATTER",
                "displayName": "loss by number of parameters",
                "xaxis": {"key": "trainable_params", "type": "METRIC"},
                "yaxis": {"key": "val_loss", "type": "METRIC"},
                "runsCountToCompare": 100,
            },
        ],
    )
    return {
        KIND_TAG: "custom_model_development",
        f"{_VIEW_TAG}{_RESULTS}": results,
        f"{_VIEW_TAG}{_CANDIDATES}": candidates,
    }


def results_page(server: str, experiment_id: str) -> str:
    """Return the address of the view of results on an MLflow server, such as ``http://127.0.0.1:5000``."""
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    # Without the first word MLflow's menu is that for language models, whatever kind the experiment is of.
    return f"{page}?workflowType=machine_learning&viewStateShareKey={_RESULTS}"


def _view(
    name: str, place: int, facets: dict[str, Any], widths: dict[str, int], charts: Iterable[dict[str, Any]]
) -> str:
    """Return a view whose table has columns of these ``widths``, in this order, and whose charts are one to a row."""
    section = {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        "columns": 1,
    }
    cards = [
        {"uuid": str(number), "metricSectionId": name, "deleted": False, "isGenerated": False, **chart}
        for number, chart in enumerate(charts)
    ]
    columns = list(widths)
    state = {**facets, "selectedColumns": columns, "columnOrder": columns, "columnWidths": widths}
    if cards:
        state |= {"compareRunCharts": cards, "compareRunSections": [section], "runsHiddenMode": "SHOW_ALL"}
    # Times decide the order alone: the moment of this run would be one more thing that differs.
    return json.dumps({"name": name, "createdAt": place, "updatedAt": place, "state": json.dumps(state)})
