"""What MLflow's pages show of an experiment without being told: its kind, a note, and views with columns and charts.

MLflow keeps all of it in tags of the experiment. Without a kind it asks what the experiment is for and opens on traces.
A view is what its page writes when a user saves one: the state of the page, as JSON, in an envelope with a name.
"""

import json
from collections.abc import Iterable
from typing import Any

from spacewarps.tracking.groups import BASELINE, INTERVAL, TEST

KIND_TAG, NOTE_TAG = "mlflow.experimentKind", "mlflow.note.content"
_VIEW_TAG = "mlflow.sharedViewState."
_RESULTS, _CANDIDATES = "space-warps-results", "space-warps-candidates"
# The menu shows the latest first.
_SHOWN_FIRST, _SHOWN_SECOND = 1, 0

_NOTE = """\
Progressive architecture search with Space Warps: each top run is a run of the pipeline, below it a run for each stage,
below `search` one for each step, below a step one for each candidate.

The menu **Views** (above the table of the training runs) holds two:

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
        [
            *_columns("metrics", f"{TEST}/accuracy", f"{INTERVAL}/accuracy_low", f"{INTERVAL}/accuracy_high"),
            *_columns("metrics", f"{TEST}/log_loss", f"{TEST}/ece", f"{BASELINE}/features_alone.accuracy"),
            *_columns("tags", "spacewarps.architecture"),
        ],
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
        [
            *_columns("params", "step", "joined"),
            *_columns("metrics", "val_loss", "val_accuracy", "trainable_params", "seconds"),
            *_columns("params", "kind", "k", "kernel_size"),
        ],
        [
            {
                "type": "PARALLEL",
                "displayName": "every candidate",
                "selectedParams": ["step", "kind", "k", "joined"],
                "selectedMetrics": ["trainable_params", "seconds", "val_loss", "val_accuracy"],
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


def _columns(kind: str, *names: str) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _view(name: str, place: int, facets: dict[str, Any], columns: list[str], charts: Iterable[dict[str, Any]]) -> str:
    section = {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }
    cards = [
        {"uuid": str(number), "metricSectionId": name, "deleted": False, "isGenerated": False, **chart}
        for number, chart in enumerate(charts)
    ]
    state: dict[str, Any] = {**facets, "selectedColumns": columns, "columnOrder": columns}
    if cards:
        state |= {"compareRunCharts": cards, "compareRunSections": [section], "runsHiddenMode": "SHOW_ALL"}
    # Times decide the order alone: the moment of this run would be one more thing that differs.
    return json.dumps({"name": name, "createdAt": place, "updatedAt": place, "state": json.dumps(state)})
