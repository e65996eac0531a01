"""A pipeline is one whole tree of runs in MLflow, wherever DVC lets it run."""

import collections
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run

from spacewarps.commands.recorded_outputs import read_outputs
from tests.pipeline.project import ROOT, Project

pytestmark = pytest.mark.long

STAGES = ["evaluate", "prepare", "search", "simulate", "train"]


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A project in a folder with spaces in its name, whose next run runs every stage."""
    project = finished.copy(tmp_path / "a project of mine")
    params = project.params()
    project.write_params(params | {"seed": params["seed"] + 1})
    project.commit("Draw another survey")
    return project


def below(parent: Run, runs: list[Run]) -> list[Run]:
    found = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return sorted(found, key=lambda run: str(run.info.run_name))


def check_tree(runs: list[Run], name: str, commit: str, lock: str) -> None:
    """See to it that ``runs`` hold one whole tree of that name, of that commit, with the hashes of a ``dvc.lock``."""
    tops = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    (top,) = [run for run in tops if run.info.run_name == name]
    stages = below(top, runs)
    assert [stage.info.run_name for stage in stages] == STAGES
    assert {run.data.tags["mlflow.source.git.commit"] for run in (top, *stages)} == {commit}
    assert {run.data.tags["spacewarps.changed"] for run in (top, *stages)} == {"[]"}
    told: dict[str, str] = {}
    for stage in stages:
        told |= json.loads(stage.data.tags["spacewarps.outputs"])
    assert told == read_outputs(lock)
    steps = below(stages[STAGES.index("search")], runs)
    candidates = [below(step, runs) for step in steps]
    assert [len(each) for each in candidates] == [2] * len(steps)
    whole = [top, *stages, *steps, *itertools.chain(*candidates)]
    assert {run.info.status for run in whole} == {"FINISHED"}
    assert max(collections.Counter(run.data.tags["spacewarps.run"] for run in whole).values()) == 1


def test_a_temporary_copy_has_one_whole_tree_in_the_projects_own_mlflow(project: Project) -> None:
    commit = project.git("rev-parse", "HEAD").strip()
    project.dvc("exp", "run", "--temp", "--name", "aside")
    (ref,) = [ref for ref in project.git("for-each-ref", "--format=%(refname)").split() if ref.endswith("/aside")]
    check_tree(project.runs(), "aside", commit, project.git("show", f"{ref}:dvc.lock"))
    assert project.git("status", "--porcelain") == ""


def test_a_git_worktree_has_one_whole_tree_in_an_mlflow_of_its_own(project: Project, tmp_path: Path) -> None:
    before = len(project.runs())
    project.git("worktree", "add", "--quiet", "-b", "aside", str(tmp_path / "a tree"))
    tree = project.at(tmp_path / "a tree")
    commit = tree.git("rev-parse", "HEAD").strip()
    tree.dvc("repro")
    check_tree(tree.runs(), f"pipeline {commit[:7]}", commit, (tree.folder / "dvc.lock").read_text())
    assert len(project.runs()) == before


def test_experiments_from_a_queue_each_have_one_whole_tree(finished: Project, tmp_path: Path) -> None:
    script = ROOT / "benchmarks/queued_experiments.py"
    done = subprocess.run(
        [sys.executable, str(script), "--rounds", "1", "--experiments", "3", "--workers", "3"],
        cwd=tmp_path,
        env=finished.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 trees complete, 0 faults, " in done.stdout
