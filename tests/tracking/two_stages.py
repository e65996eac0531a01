"""Two stages of one pipeline run, as they tell MLflow of a small search and a training.

    python -m tests.tracking.two_stages [killed]

``killed``: at the end of the first step.
"""

import os
import signal
import sys
from pathlib import Path

from spacewarps.tracking.pipeline_run import stage_run
from tests.tracking.servers import wait_for_senders

DATA = {"name": "data/prepared", "digest": "1.dir", "source_type": "dvc", "source": "{}", "profile": "{}"}
PARAMS = {"seed": 1, "RR*": 2}


def stages(*, killed: bool = False) -> None:
    """Run both; `report.txt` must be in the working folder."""
    with stage_run("search", PARAMS) as search:
        for run in (search.run_id, search.pipeline_id):
            search.tracker.log_data(run, DATA, "search")
        step = search.tracker.start_run("step 1", search.run_id, {"level": "step"})
        for k in (4, 8):
            candidate = search.tracker.start_run(f"conv k={k}", step, {})
            search.tracker.log(candidate, curves={"loss": [3.0, 2.0, 2.0]}, metrics={"score": k / 10})
            search.tracker.end_run(candidate)
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        search.tracker.end_run(step)
        search.log_artifacts(Path("report.txt"))
    # Each stage is a process of its own, with which its sender ends before the next begins.
    wait_for_senders()
    with stage_run("train", PARAMS) as train:
        train.log_metrics({"accuracy": 0.5, "worst": float("nan")}, final=True)


if __name__ == "__main__":
    stages(killed="killed" in sys.argv)
