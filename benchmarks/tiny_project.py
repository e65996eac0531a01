"""A new project with a tiny survey, for what is measured on whole pipelines; tests have its params and tools, too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spacewarps.project import init_project
from spacewarps.tracking.notes import PARENT_TAG
from spacewarps.tracking.revision import COMMIT_TAG
from spacewarps.tracking.store import find_store
from spacewarps.yaml_params import read_yaml_file, write_yaml

STAGES = ("simulate", "prepare", "search", "train", "evaluate")
#: As small as a pipeline can be that has steps, candidates and a final network.
TINY: dict[str, dict[str, object]] = {
    # As in the process of the tests, which cannot be told before it imports torch.
    "compute": {"kernels": "native"},
    "simulate": {"n_samples": 90},
    # Where the executor does not matter, nothing waits for processes to start.
    # One split and one network, which is the fastest.
    "search": {
        "max_layers": 2,
        "k_candidates": [3, 5],
        "epochs_per_eval": 1,
        "executor": "inline",
        "folds": 1,
        "decides": "accuracy",
        "patience": 1,
    },
    "train": {"epochs": 2, "start": "warm", "data": "train", "orientations": 1, "calibration": "none"},
    "evaluate": {"bootstrap_resamples": 200},
}


class TinyProject:
    """A new project under git and DVC, which runs the installed code.

    Args:
        folder: must not exist.
        message: of its first commit.
        search: params of the search beside those of ``TINY``.
    """

    def __init__(self, folder: Path, message: str, **search: object) -> None:
        self.folder = folder
        init_project(folder)
        params = read_yaml_file(folder / "params.yaml")
        for section, values in TINY.items():
            params[section] |= values
        params["search"] |= search
        (folder / "params.yaml").write_text(write_yaml(params), encoding="utf-8")
        for command in (("config", "user.name", "A"), ("config", "user.email", "a@example.org"), ("add", ".")):
            self.run("git", *command)
        self.run("git", "commit", "--quiet", "--message", message)
        self.commit = self.run("git", "rev-parse", "HEAD").strip()

    def run(self, *command: str) -> str:
        """Run a command in the project, and return what it printed."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC in the project, and return what it printed."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def deliver_late_notes(self) -> int:
        """Deliver what a slow server had not taken when the last stages ended, and return how many notes that were."""
        said = self.run(sys.executable, "-m", "spacewarps.cli", "sync")
        return int(found[1]) if (found := re.search(r"(\d+) notes? delivered", said)) else 0

    def runs(self) -> list[Run]:
        """Return the runs of this project's commit, and all below them."""
        client = MlflowClient(find_store(self.folder).uri)
        experiment = client.get_experiment_by_name("space-warps")
        if experiment is None:
            return []
        found: list[Run] = []
        page: str | None = None
        while page is None or page:
            some = client.search_runs([experiment.experiment_id], max_results=1000, page_token=page)
            found += some
            page = some.token or ""
        # On a server there are those of other rounds, too.
        own = {run.info.run_id: run for run in found if run.data.tags.get(COMMIT_TAG) == self.commit}
        while below := [r for r in found if r.info.run_id not in own and r.data.tags.get(PARENT_TAG) in own]:
            own |= {run.info.run_id: run for run in below}
        return list(own.values())


def processes_of_session(leader: int) -> list[psutil.Process]:
    """Return what still runs of what a command started, itself included."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
