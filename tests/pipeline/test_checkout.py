"""From a run in MLflow to a working tree, for runs as users make them."""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.project import Project
from tests.pipeline.test_sharing import nothing_is_left_to_do

pytestmark = pytest.mark.long


def id_of(project: Project, name: str) -> str:
    """Return the id of the latest run that MLflow shows under a name."""
    return str(next(run.info.run_id for run in project.runs() if run.info.run_name == name))


def pipeline_of(project: Project) -> str:
    (run_id,) = [run.info.run_id for run in project.runs() if str(run.info.run_name).startswith("pipeline ")]
    return str(run_id)


def test_a_run_of_dvc_repro_becomes_a_working_tree_with_its_results(finished: Project, tmp_path: Path) -> None:
    project, tree = finished.copy(tmp_path / "project"), finished.at(tmp_path / "tree")
    run_id = pipeline_of(project)
    done = project.spacewarps("checkout", run_id, "../tree")
    assert (done.returncode, done.stderr) == (0, "")
    assert "`dvc repro` there has nothing to do" in done.stdout
    assert tree.git("rev-parse", "HEAD") == project.git("rev-parse", "HEAD~1")
    assert nothing_is_left_to_do(tree)
    assert tree.spacewarps("result").returncode == 0
    assert project.git("status", "--porcelain") == ""

    # A candidate's run leads to the same.
    again = project.spacewarps("checkout", id_of(project, "step 1"), "../tree")
    outputs = sum(len(stage["outs"]) for stage in project.lock()["stages"].values())
    assert (again.returncode, f"has the hashes of all {outputs} outputs" in again.stdout) == (0, True)
    tree.dvc("repro", "--force")
    assert project.spacewarps("checkout", run_id, "../tree").returncode == 0
    assert tree.lock() == project.lock()

    lock = tree.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace(project.lock()["stages"]["train"]["outs"][0]["md5"], "f" * 32))
    other = project.spacewarps("checkout", run_id, "../tree")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert f"1 of {outputs} outputs are not those of run" in other.stderr


def test_an_experiment_becomes_a_working_tree_that_gives_its_hashes(finished: Project, tmp_path: Path) -> None:
    project, tree = finished.copy(tmp_path / "project"), finished.at(tmp_path / "tree")
    project.dvc("exp", "run", "--name", "shorter", "--set-param", "train.epochs=1")
    run_id = id_of(project, "shorter")
    project.git("checkout", "--quiet", "--force", "HEAD")
    project.dvc("checkout", "--force")
    assert "has nothing to do" in project.spacewarps("checkout", run_id, str(tree.folder)).stdout
    assert tree.params()["train"]["epochs"] == 1
    assert nothing_is_left_to_do(tree)
    project.git("worktree", "remove", "--force", str(tree.folder))

    # Without the experiment and without what only it had in the cache, the stages make it again.
    project.dvc("exp", "remove", "shorter")
    project.dvc("gc", "--workspace", "--force")
    said = project.spacewarps("checkout", run_id, str(tree.folder)).stdout
    assert "no commit holds those of the run" in said
    assert "`dvc repro` there runs train" in said
    assert project.spacewarps("checkout", run_id, str(tree.folder)).returncode == 2
    assert tree.dvc("repro").stdout.count("Running stage") == 2
    assert project.spacewarps("checkout", run_id, str(tree.folder)).returncode == 0


def test_data_that_the_clone_does_not_have_comes_from_the_remote(finished: Project, tmp_path: Path) -> None:
    project, tree = finished.copy(tmp_path / "project"), finished.at(tmp_path / "tree")
    project.dvc("remote", "add", "--local", "--default", "lab", str(tmp_path / "remote"))
    project.dvc("push")
    shutil.rmtree(project.folder / ".dvc/cache")
    assert "has nothing to do" in project.spacewarps("checkout", pipeline_of(project), str(tree.folder)).stdout
    assert (tree.folder / "models/final/model.safetensors").exists()
    project.git("worktree", "remove", "--force", str(tree.folder))

    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(tmp_path / "remote")
    done = project.spacewarps("checkout", pipeline_of(project), str(tree.folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert "neither in the cache of this clone nor in a remote: data/demo, data/prepared, models/search" in done.stdout
    assert "`dvc repro` there runs simulate, prepare, search, train, evaluate" in done.stdout


def test_a_run_that_git_cannot_repeat_is_refused_and_nothing_is_left(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    run_id = pipeline_of(project)
    (tmp_path / "taken").mkdir()
    code = project.folder / "src/spacewarps/evaluation/markdown.py"
    code.write_text(code.read_text() + "# not committed\n")
    project.dvc("repro")
    changed = project.runs()[0].info.run_id
    project.git("checkout", "--quiet", "--force", "HEAD")
    for arguments, told in [
        ((run_id, "../taken"), "is there already"),
        ((str(changed), "../tree"), "src/spacewarps/evaluation/markdown.py had changes"),
        (("0" * 32, "../tree"), "name a run as MLflow shows it"),
    ]:
        done = project.spacewarps("checkout", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert told in done.stderr
    # The same runs, but a repository that does not have the commit.
    shutil.rmtree(project.folder / ".git")
    project.git("init", "--quiet")
    project.commit("Another history")
    done = project.spacewarps("checkout", run_id, "../tree")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "is not in this repository" in done.stderr
    assert not (tmp_path / "tree").exists()
    assert len(project.git("worktree", "list").splitlines()) == 1
