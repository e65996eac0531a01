"""Runs experiments from DVC's queue, several at a time, and looks whether MLflow has each of them whole, and once.

    python benchmarks/queued_experiments.py [--rounds 10] [--experiments 12] [--workers 4]

A round is a new project with a tiny survey and no database, whose experiments are queued and then worked off together.
With MLFLOW_TRACKING_URI the same runs are on that server. Prints a line for each round, and what was wrong in it; ends
with status 1 if anything was.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from spacewarps.commands.recorded_outputs import differing_outputs, read_outputs
from spacewarps.tracking.notes import OUTPUTS_TAG, PARENT_TAG, RUN_TAG, STAGE_TAG
from spacewarps.tracking.revision import COMMIT_TAG, EXPERIMENT_TAG
from spacewarps.tracking.waiting import SPOOL
from tiny_project import STAGES, TinyProject

# What DVC and the stages say where something went wrong beside the work.
COMPLAINTS = re.compile(r"database is locked|MLflow did not take|MLflow could not|MLflow will not|does not answer")
# To ask costs DVC seconds of a core, which the experiments need.
PAUSE_SECONDS = 20.0
HEAD = ("round", "trees complete", "runs", "late notes", "faults", "seconds")


class QueuedProject(TinyProject):
    """A new project, with experiments in its queue."""

    def __init__(self, folder: Path, prefix: str, experiments: int) -> None:
        super().__init__(folder, f"Start {prefix}")
        self.names = [f"{prefix}-{number:02d}" for number in range(experiments)]
        for seed, name in enumerate(self.names):
            # Each has a survey of its own, so that DVC knows the output of no stage beforehand.
            self.dvc("exp", "run", "--queue", "--name", name, "--set-param", f"seed={seed}")

    def work_off(self, workers: int) -> None:
        """Wait until nothing is in the queue any more."""
        # The workers inherit its output, and DVC leaves one of them idle now and then: its end would never come.
        command = [sys.executable, "-m", "dvc", "queue", "start", "--jobs", str(workers)]
        subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        while re.search(r"\b(Queued|Running)\b", self.dvc("queue", "status")):
            time.sleep(PAUSE_SECONDS)
        self.dvc("queue", "stop", "--kill")

    def show(self, name: str, path: str) -> str:
        """Return a file of an experiment; nothing where it has none."""
        refs = self.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
        for ref in refs:
            if ref.endswith(f"/{name}"):
                done = subprocess.run(
                    ["git", "show", f"{ref}:{path}"], cwd=self.folder, capture_output=True, text=True, check=False
                )
                return done.stdout
        return ""


def faults_of_a_tree(project: QueuedProject, name: str, runs: list[Run]) -> Iterator[str]:
    """Yield what is wrong with the runs of one experiment."""
    tops = [run for run in runs if run.info.run_name == name and PARENT_TAG not in run.data.tags]
    if len(tops) != 1:
        yield f"{len(tops)} runs of the pipeline"
        return
    (top,) = tops
    stages = {run.info.run_name: run for run in _below(top, runs)}
    if sorted(run.info.run_name for run in _below(top, runs)) != sorted(STAGES):
        yield f"stages {sorted(run.info.run_name for run in _below(top, runs))}"
        return
    for run in (top, *stages.values()):
        tags = run.data.tags
        if (tags.get(COMMIT_TAG), tags.get(EXPERIMENT_TAG)) != (project.commit, name):
            yield f"{run.info.run_name} is of commit {tags.get(COMMIT_TAG)}, experiment {tags.get(EXPERIMENT_TAG)}"
        if run is not top and tags.get(STAGE_TAG) != run.info.run_name:
            yield f"{run.info.run_name} is the stage {tags.get(STAGE_TAG)}"
    lock = project.show(name, "dvc.lock")
    told = {
        path: md5 for run in stages.values() for path, md5 in json.loads(run.data.tags.get(OUTPUTS_TAG, "{}")).items()
    }
    if not lock or told.keys() != read_outputs(lock).keys() or differing_outputs(told, lock):
        yield f"its outputs are not those of dvc.lock: {differing_outputs(told, lock) or 'some are missing'}"
    searched = json.loads(project.show(name, "reports/search.json") or '{"candidates": []}')["candidates"]
    steps = _below(stages["search"], runs)
    candidates = [run for step in steps for run in _below(step, runs)]
    expected = (len({each["layer"] for each in searched}), len(searched))
    if (len(steps), len(candidates)) != expected:
        yield f"{len(steps)} steps and {len(candidates)} candidates, where reports/search.json has {expected}"


def _below(parent: Run, runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id]


def faults_of_all(project: QueuedProject, runs: list[Run]) -> Iterator[str]:
    """Yield what is wrong with the runs of all experiments together."""
    for run in runs:
        if run.info.status != "FINISHED":
            yield f"{run.info.run_name} is {run.info.status}"
    counts = collections.Counter(run.data.tags.get(RUN_TAG) for run in runs)
    yield from (f"{count} runs are {run}" for run, count in counts.items() if count > 1)
    for path in (project.folder / ".dvc/tmp/exps").rglob("*"):
        if path.is_file():
            for said in COMPLAINTS.findall(path.read_bytes().decode(errors="replace")):
                yield f"{path.relative_to(project.folder)}: {said}"
    spool = project.folder / SPOOL
    if spool.is_dir():
        yield from (f"notes wait in {SPOOL / folder.name}" for folder in spool.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--experiments", type=int, default=12)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    if "://" not in os.environ.get("MLFLOW_TRACKING_URI", "://"):
        parser.error("MLFLOW_TRACKING_URI names a folder; name a server, or unset it")
    print("  ".join(HEAD), flush=True)
    whole, wrong, took = 0, 0, 0.0
    for number in range(1, arguments.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="queue", ignore_cleanup_errors=True) as place:
            project = QueuedProject(Path(place) / "project", f"r{number:02d}", arguments.experiments)
            start = time.monotonic()
            project.work_off(arguments.workers)
            seconds = time.monotonic() - start
            late = project.deliver_late_notes()
            runs = project.runs()
            faults = {name: list(faults_of_a_tree(project, name, runs)) for name in project.names}
            faults["all"] = list(faults_of_all(project, runs))
        complete = sum(not faults[name] for name in project.names)
        count = sum(map(len, faults.values()))
        whole, wrong, took = whole + complete, wrong + count, took + seconds
        row = (number, f"{complete} of {arguments.experiments}", len(runs), late, count, f"{seconds:.0f}")
        print("  ".join(str(value).rjust(len(name)) for value, name in zip(row, HEAD, strict=True)), flush=True)
        for name, each in faults.items():
            for fault in each:
                print(f"  {name}: {fault}", flush=True)
    print(
        f"{whole} of {arguments.rounds * arguments.experiments} trees complete, {wrong} faults, "
        f"{took / arguments.rounds:.0f} s a round"
    )
    return int(wrong > 0 or whole < arguments.rounds * arguments.experiments)


if __name__ == "__main__":
    sys.exit(main())
