"""DVC's experiments in which no stage has to run: each has its tree of runs all the same."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run

from spacewarps.processes import alone_in
from spacewarps.tracking.delivery import Delivery
from spacewarps.tracking.experiment import destination
from spacewarps.tracking.lock_file import read_lock
from spacewarps.tracking.notes import ARCHITECTURE_TAG, COMPUTED_TAG, OUTPUTS_TAG, PARENT_TAG, PIPELINE_TAG, STAGE_TAG
from spacewarps.tracking.recorded_run import find_recorded_run
from spacewarps.tracking.run_notes import RunNotes
from spacewarps.tracking.spool import Spool
from spacewarps.tracking.store import find_store
from spacewarps.tracking.unrun_experiments import UnrunExperiments
from spacewarps.tracking.views import NOTE_TAG
from spacewarps.tracking.waiting import SPOOL
from tests.tracking.runs import experiment_of

pytestmark = pytest.mark.long

STAGE = """
import sys
from pathlib import Path
from spacewarps.settings import flatten
from spacewarps.tracking.pipeline_run import stage_run
from spacewarps.yaml_params import read_yaml_file

params = flatten(read_yaml_file(Path("params.yaml")))
with stage_run(sys.argv[1], params | {"fetch.hours": float(params["fetch.hours"])}) as run:
    if sys.argv[1] == "prepare":
        Path("data").write_text(f"survey {params['seed']}")
    else:
        Path("reports").mkdir(exist_ok=True)
        Path("reports/metrics.json").write_text(f'{{"test": {{"accuracy": {params["accuracy"]}}}}}')
        run.log_metrics({"test/accuracy": params["accuracy"]}, final=True)
        said = "Good.\\n- **The stage prepare ran with other params than stand here: `seed` was 1, not 2**"
        run.tracker.log(run.pipeline_id, tags={"mlflow.note.content": said, "spacewarps.architecture": "conv k=3"})
        data = {"name": "data", "digest": "1.dir", "source_type": "dvc", "source": "{}", "profile": "{}"}
        run.tracker.log_data(run.pipeline_id, data, "evaluation")
"""
PARAMS = {"seed": 1, "accuracy": 0.5, "workers": 1, "paths": {"reports": "reports"}, "fetch": {"hours": 24}}
# As in the project, outputs that persist keep stages out of DVC's run cache.
STAGES = {
    "prepare": {"cmd": "python stage.py prepare", "params": ["seed"], "outs": [{"data": {"persist": True}}]},
    "evaluate": {
        "cmd": "python stage.py evaluate",
        "deps": ["data"],
        "params": ["accuracy"],
        "metrics": [{"reports/metrics.json": {"cache": False, "persist": True}}],
    },
}


class Project:
    """A project of two stages that take no time, under git and DVC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "GIT_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=self.folder, env=clean | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def commit(self) -> str:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "Go on")
        return self.run("git", "rev-parse", "HEAD").strip()

    def sync(self) -> str:
        return self.run(sys.executable, "-m", "spacewarps.cli", "sync")

    def experiment(self, name: str, *options: str) -> str:
        """Run an experiment, and return its commit."""
        self.dvc("exp", "run", "--name", name, *options)
        return self.commit_of(name)

    def commit_of(self, name: str) -> str:
        return self.run("git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").strip()

    def trees(self, name: str) -> list[tuple[Run, dict[str, Run]]]:
        """Return each run of the pipeline of that name, and the runs of stages below it."""
        client, experiment_id = experiment_of(self.folder)
        runs = list(client.search_runs([experiment_id], max_results=1000))
        found = []
        for top in (run for run in runs if PIPELINE_TAG in run.data.tags and run.info.run_name == name):
            below = [run for run in runs if run.data.tags.get(PARENT_TAG) == top.info.run_id]
            assert len({run.data.tags[STAGE_TAG] for run in below}) == len(below)
            found.append((top, {run.data.tags[STAGE_TAG]: run for run in below}))
        return found

    def forget(self) -> None:
        """Let the experiments be looked at again."""
        (self.folder / ".spacewarps/experiments.json").unlink()

    def record(self, note_progress: Callable[[], None] = lambda: None) -> list[str]:
        """Record what there is to record in this process, and return the names."""
        client, experiment_id = experiment_of(self.folder)
        unrun = UnrunExperiments(self.folder, destination(find_store(self.folder), self.folder))
        delivery = Delivery(client, experiment_id, _fail)
        return unrun.record(client, experiment_id, delivery, note_progress, at_most=0)


def _fail(error: Exception) -> None:
    raise error


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run once, of which nothing is changed."""
    project = Project(tmp_path_factory.mktemp("made") / "project")
    project.folder.mkdir()
    (project.folder / "stage.py").write_text(STAGE)
    (project.folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (project.folder / ".gitignore").write_text("/.spacewarps/\n/mlflow.db*\n/mlartifacts/\n")
    (project.folder / ".dvcignore").write_text("/.spacewarps/\n/mlartifacts/\n")
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "A")
    project.run("git", "config", "user.email", "a@example.org")
    project.dvc("init", "--quiet")
    project.commit()
    project.dvc("repro")
    project.commit()
    return project.folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def wait_for_queue(project: Project) -> None:
    project.dvc("queue", "start")
    deadline = time.monotonic() + 120
    while any(word in project.dvc("queue", "status") for word in ("Queued", "Running")):
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.parametrize("way", [[], ["--temp"], ["--queue"]])
def test_an_experiment_in_which_no_stage_runs_has_its_whole_tree(project: Project, way: list[str]) -> None:
    base = project.run("git", "rev-parse", "HEAD").strip()
    project.dvc("exp", "run", "--name", "again", *way, "--set-param", "workers=2")
    if way == ["--queue"]:
        wait_for_queue(project)
    commit = project.commit_of("again")
    assert project.sync().splitlines()[-1] == "again: no stage had to run, and has its tree of runs now"
    ((top, stages),) = project.trees("again")
    tags = top.data.tags
    assert (tags["dvc.experiment"], tags["mlflow.source.git.commit"], tags["dvc.baseline"]) == ("again", base, base)
    assert (tags["spacewarps.changed"], tags[ARCHITECTURE_TAG]) == ("[]", "conv k=3")
    assert top.info.status == "FINISHED"
    assert top.data.metrics == {"test/accuracy": 0.5}
    assert top.inputs is not None
    assert [used.dataset.digest for used in top.inputs.dataset_inputs] == ["1.dir"]
    ((first, computed),) = project.trees(f"pipeline {project.run('git', 'rev-parse', 'HEAD~').strip()[:7]}")
    assert {name for name, value in top.data.params.items() if first.data.params[name] != value} == {"workers"}
    assert {name: run.data.tags[COMPUTED_TAG] for name, run in stages.items()} == {
        name: run.info.run_id for name, run in computed.items()
    }
    # What it came to stands on its page, but not what the params of another run hide.
    assert f"run [{first.info.run_id}]" in tags[NOTE_TAG]
    assert tags[NOTE_TAG].endswith("\n\nGood.")
    told = {path: md5 for run in stages.values() for path, md5 in json.loads(run.data.tags[OUTPUTS_TAG]).items()}
    assert told == read_lock(project.run("git", "show", f"{commit}:dvc.lock")).outputs
    # So that `spacewarps checkout` finds them again.
    assert find_recorded_run(top.info.run_id, project.folder).outputs == told
    client, _ = experiment_of(project.folder)
    kept = Path(client.download_artifacts(top.info.run_id, "params.yaml", str(project.folder.parent)))
    assert yaml.safe_load(kept.read_text()) == PARAMS | {"workers": 2}
    # Once.
    assert project.record() == []
    project.forget()
    assert project.record() == []
    assert len(project.trees("again")) == 1


def test_the_next_stage_records_it_and_leaves_alone_those_that_ran(project: Project) -> None:
    project.experiment("again")
    project.experiment("better", "--set-param", "accuracy=0.75")
    project.experiment("back", "--set-param", "accuracy=0.25")
    for name in ("again", "better", "back"):
        ((_, stages),) = project.trees(name)
        assert stages.keys() == STAGES.keys()
    assert project.record() == []


def test_an_experiment_leads_to_the_run_that_had_computed_it_by_then(project: Project) -> None:
    ((_, first),) = project.trees(f"pipeline {project.run('git', 'rev-parse', 'HEAD~').strip()[:7]}")
    commit = project.experiment("again")
    base = project.run("git", "rev-parse", "HEAD").strip()
    # The next stage would record it at its start.
    project.run("git", "update-ref", "-d", f"refs/exps/{base[:2]}/{base[2:]}/again")
    # Commits of git have the time of the second.
    time.sleep(1.1)
    project.dvc("repro", "--force")
    project.run("git", "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/again", commit)
    assert project.record() == ["again"]
    ((_, stages),) = project.trees("again")
    assert {run.data.tags[COMPUTED_TAG] for run in stages.values()} == {run.info.run_id for run in first.values()}


def test_many_processes_at_once_record_it_once(project: Project) -> None:
    project.experiment("again")
    project.experiment("and-again", "--set-param", "workers=3")
    # Also one that works in another tree of the same repository.
    with alone_in(project.folder / ".git"), pytest.raises(BlockingIOError):
        project.record()
    command = [sys.executable, "-m", "spacewarps.cli", "sync"]
    several = [subprocess.Popen(command, cwd=project.folder, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(120) for process in several] == [0] * 4
    assert [len(project.trees(name)) for name in ("again", "and-again")] == [1, 1]


def test_an_experiment_with_the_name_of_one_that_was_removed_has_a_tree_of_its_own(project: Project) -> None:
    project.experiment("mine", "--set-param", "accuracy=0.75")
    project.run("git", "checkout", "--quiet", ".")
    project.dvc("checkout", "--quiet")
    project.dvc("exp", "remove", "mine")
    project.experiment("mine", "--temp")
    assert project.record() == ["mine"]
    assert [top.data.metrics["test/accuracy"] for top, _ in project.trees("mine")] == [0.5, 0.75]


def test_results_that_no_run_here_had_computed_before_have_no_tree(project: Project) -> None:
    project.experiment("again")
    # As where an experiment was pulled, or is older than the database.
    (project.folder / "mlflow.db").unlink()
    assert project.record() == []
    project.forget()
    time.sleep(1.1)
    project.dvc("repro", "--force")
    project.forget()
    assert project.record() == []
    assert project.trees("again") == []


def test_what_a_user_has_deleted_does_not_come_back(project: Project) -> None:
    project.experiment("better", "--set-param", "accuracy=0.75")
    client, _ = experiment_of(project.folder)
    ((top, _),) = project.trees("better")
    client.delete_run(top.info.run_id)
    assert project.record() == []
    assert project.trees("better") == []


def test_there_is_no_telling_while_notes_wait(project: Project) -> None:
    project.experiment("again")
    waiting = Spool.create(project.folder / SPOOL, destination(find_store(project.folder), project.folder))
    RunNotes(waiting).start_run("search", None, {})
    waiting.release()
    assert project.record() == []
    waiting.discard()
    assert project.record() == ["again"]


def test_one_that_was_interrupted_is_completed(project: Project) -> None:
    project.experiment("again")
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.record(interrupt)
    ((top, stages),) = project.trees("again")
    assert (top.info.status, list(stages)) == ("RUNNING", [])
    assert " delivered to " in project.sync()
    ((top, stages),) = project.trees("again")
    assert (top.info.status, set(stages)) == ("FINISHED", set(STAGES))
    assert project.record() == []
