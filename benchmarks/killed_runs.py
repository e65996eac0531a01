"""Kills the pipeline at any moment, again and again, and looks what DVC and MLflow have in the end.

    python benchmarks/killed_runs.py [--kills 20] [--seed 1]

One project runs undisturbed. In another of the same params `dvc repro` and all that it started are killed (SIGKILL) at
a moment drawn from the time that the first one took, and `dvc repro` is typed again; where it has come to its end, it
starts once more from nothing. At last it is left alone. Prints what the kills met and what came of it; ends with
status 1 if a run is still RUNNING, a result is another, or a run stands there twice. Where a kill tore DVC's own
`.dvc/tmp/rwlock`, which DVC cannot read then, it is deleted, as a user has to do; these are counted.
"""

import argparse
import collections
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from spacewarps.commands.recorded_outputs import read_outputs
from spacewarps.tracking.notes import PARENT_TAG, RUN_TAG, STAGE_TAG
from spacewarps.tracking.waiting import SPOOL
from tiny_project import STAGES, TinyProject, processes_of_session

REPRO = (sys.executable, "-m", "dvc", "repro")
TORN = "Unable to read RWLock-file"


class KilledProject(TinyProject):
    """A project whose pipeline can be killed; its search has workers, which must end with it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "Start", executor="processes", workers=2)
        #: How often DVC's own lock was torn.
        self.torn = 0

    def repro(self, seconds: float | None) -> bool:
        """Run the pipeline, and return whether it was killed, with all that it had started, after ``seconds``."""
        with (self.folder.parent / "said.txt").open("wb") as said:
            leader = subprocess.Popen(
                REPRO, cwd=self.folder, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status = leader.wait(seconds)
            except subprocess.TimeoutExpired:
                while left := processes_of_session(leader.pid):
                    for process in left:
                        process.kill()
                    leader.poll()
                    time.sleep(0.02)
                leader.wait()
                return True
        told = Path(said.name).read_text(encoding="utf-8")
        if status and TORN in told:
            self.torn += 1
            (self.folder / ".dvc/tmp/rwlock").unlink()
            return self.repro(seconds)
        if status:
            raise SystemExit(f"dvc repro ended with status {status}:\n{told}")
        return False

    def outputs(self) -> dict[str, str]:
        """Return the hash of every output."""
        return read_outputs((self.folder / "dvc.lock").read_text(encoding="utf-8"))

    def forget(self) -> None:
        """Delete all that the pipeline has made, but for what MLflow has."""
        for name in ("data", "models", "reports", ".spacewarps/journal", ".dvc/cache", "dvc.lock"):
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.run("git", "checkout", "--quiet", "--", ".")


def faults_of(project: KilledProject, runs: list[Run], outputs: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong when all has come to its end."""
    yield from (f"{run.info.run_name} is RUNNING" for run in runs if run.info.status == "RUNNING")
    counts = collections.Counter(run.data.tags.get(RUN_TAG) for run in runs)
    yield from (f"{count} runs are {run}" for run, count in counts.items() if count > 1)
    if project.outputs() != outputs:
        yield "dvc.lock is not that of the undisturbed run"
    tops = [run for run in runs if PARENT_TAG not in run.data.tags]
    last = max(tops, key=lambda run: int(run.info.start_time))
    # Those that DVC did not run again are named so; the tag is the stage's name.
    stages = sorted(
        run.data.tags.get(STAGE_TAG, "") for run in runs if run.data.tags.get(PARENT_TAG) == last.info.run_id
    )
    if last.info.status != "FINISHED" or stages != sorted(STAGES):
        yield f"the last tree is {last.info.status}, with {stages}"
    spool = project.folder / SPOOL
    if spool.is_dir():
        yield from (f"notes wait in {SPOOL / folder.name}" for folder in spool.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="killed") as place:
        alone = KilledProject(Path(place) / "alone" / "project")
        start = time.monotonic()
        alone.repro(None)
        seconds = time.monotonic() - start
        project = KilledProject(Path(place) / "killed" / "project")
        kills = ends = 0
        while kills < arguments.kills:
            if project.repro(chance.uniform(0, seconds)):
                kills += 1
            else:
                ends += 1
                project.forget()
        project.repro(None)
        project.deliver_late_notes()
        runs = project.runs()
        faults = list(faults_of(project, runs, alone.outputs()))
    hit = collections.Counter(
        run.info.run_name for run in runs if run.info.status == "KILLED" and STAGE_TAG in run.data.tags
    )
    print(f"undisturbed: {seconds:.0f} s; killed {kills} times, came to its end {ends} times before it was left alone")
    if project.torn:
        print(f"a kill tore DVC's own lock {project.torn} times")
    statuses = collections.Counter(run.info.status for run in runs)
    print("runs in MLflow: " + ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())))
    print("stages that a kill met: " + ", ".join(f"{name} {hit[name]}" for name in STAGES if hit[name]))
    for fault in faults:
        print(f"fault: {fault}")
    print(f"{len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
