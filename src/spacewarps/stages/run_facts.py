"""When, where and from which commit a result came: what differs from run to run, and so is no part of the result."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spacewarps.reading import sha256_of
from spacewarps.resources import available_cores
from spacewarps.tracking.revision import CHANGED_TAG, COMMIT_TAG, EXPERIMENT_TAG
from spacewarps.training.compute import Compute, kind_of_machine


def facts_of_run(
    began: datetime, compute: Compute, tags: Mapping[str, str], seconds: Mapping[str, float], made: Mapping[str, Path]
) -> dict[str, Any]:
    """Return what ``reports/run.json`` holds.

    Args:
        began: when the stage began, UTC.
        compute: what it computed with.
        tags: the commit and the experiment, as far as they are known, under the names of their tags in MLflow.
        seconds: how long its parts took.
        made: the files that it made, by their names: by their hashes one knows whether these are the facts of a result.
    """
    ended = datetime.now(UTC)
    return {
        "of": {name: sha256_of(path) for name, path in made.items()},
        "commit": tags.get(COMMIT_TAG),
        "not_in_the_commit": json.loads(tags.get(CHANGED_TAG, "[]")),
        "experiment": tags.get(EXPERIMENT_TAG),
        "began": began.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "machine": {
            "name": platform.node(),
            "system": platform.platform(),
            "cores": available_cores(),
            "kernels": kind_of_machine(compute.device),
        },
        "python": platform.python_version(),
        "seconds": {"evaluate": (ended - began).total_seconds(), **seconds},
    }
