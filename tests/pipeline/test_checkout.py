"""From a run in MLflow to a working tree, for runs as users make them."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from spacewarps.tracking.revision import CHANGED_TAG, MOST_NAMED
from tests.pipeline.project import Project
from tests.pipeline.test_sharing import nothing_is_left_to_do

pytestmark = pytest.mark.long

MARKDOWN = "src/spacewarps/evaluation/markdown.py"
ADDED = "src/spacewarps/report/new.py"
ARCHIVES_ONLY = "src/spacewarps/archives/new.py"


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


def add_to(project: Project, name: str) -> None:
    """Change a module of the project, which nobody commits."""
    with (project.folder / name).open("a") as file:
        file.write("# not committed\n")


@pytest.mark.parametrize("where", [[], ["--temp"]])
def test_an_experiment_with_changes_becomes_a_working_tree_that_has_them(
    finished: Project, tmp_path: Path, where: list[str]
) -> None:
    project, tree = finished.copy(tmp_path / "project"), finished.at(tmp_path / "tree")
    add_to(project, MARKDOWN)
    if not where:
        # Not even added; a temporary copy does not have it.
        add_to(project, ADDED)
    project.dvc("exp", "run", *where, "--name", "noted", "--set-param", "train.epochs=1")
    commit = project.git("for-each-ref", "--format=%(objectname)", "refs/exps/*/*/noted").strip()
    project.git("checkout", "--quiet", "--force", "HEAD")
    project.dvc("checkout", "--force")
    run_id = id_of(project, "noted")
    done = project.spacewarps("checkout", run_id, "../tree")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith(f"../tree: commit {commit[:12]} of experiment noted with the params of run {run_id}")
    more = "" if where else " and 1 more"
    assert second.startswith(f"  code: with the changes to {MARKDOWN}{more} that were not in commit")
    assert "`dvc repro` there has nothing to do" in done.stdout
    assert nothing_is_left_to_do(tree)
    assert tree.lock() == yaml.safe_load(project.git("show", f"{commit}:dvc.lock"))
    assert (tree.folder / MARKDOWN).read_text().endswith("# not committed\n")
    assert (tree.folder / ADDED).exists() == (not where)

    # Said again, it compares; the tree itself keeps the commit of an experiment that is removed.
    project.dvc("exp", "remove", "noted")
    assert "has the hashes of all" in project.spacewarps("checkout", run_id, "../tree").stdout
    project.git("worktree", "remove", "--force", str(tree.folder))
    refused = project.spacewarps("checkout", run_id, "../tree")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "`dvc exp pull REMOTE noted` brings the experiment if it was pushed" in refused.stderr
    assert not tree.folder.exists()


def test_changes_become_a_working_tree_once_all_are_committed_with_the_results(
    finished: Project, tmp_path: Path
) -> None:
    project, tree = finished.copy(tmp_path / "project"), finished.at(tmp_path / "tree")
    listed = (project.folder / "dvc.yaml").read_text().replace(f"- {MARKDOWN}", f"- {MARKDOWN}\n      - src/new.py")
    (project.folder / "dvc.yaml").write_text(listed)
    (project.folder / "src/new.py").write_text("# not even added\n")
    add_to(project, MARKDOWN)
    for module in sorted((project.folder / "src/spacewarps/report").glob("*.py"))[:MOST_NAMED]:
        add_to(project, str(module.relative_to(project.folder)))
    project.dvc("repro")
    code = (project.folder / MARKDOWN).read_text()
    run = next(run for run in project.runs() if run.info.run_name == "evaluate")
    # There are more changes than are named.
    assert len(json.loads(run.data.tags[CHANGED_TAG])) == MOST_NAMED

    def checked_out() -> bool:
        project.git("commit", "--quiet", "--all", "--message", "Another try")
        status = project.spacewarps("checkout", str(run.info.run_id), "../tree").returncode
        assert (status, tree.folder.exists()) in [(0, True), (2, False)]
        return tree.folder.exists()

    assert not checked_out()
    # The file that git did not have, but a module is no more what dvc.lock has the hash of.
    project.git("add", "src/new.py")
    add_to(project, MARKDOWN)
    assert not checked_out()
    (project.folder / MARKDOWN).write_text(code)
    assert checked_out()
    assert tree.git("rev-parse", "HEAD") == project.git("rev-parse", "HEAD")
    assert nothing_is_left_to_do(tree)


def test_an_experiment_without_a_file_that_git_did_not_track_is_refused(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    # DVC adds to git what the stages of the experiment list.
    (project.folder / ARCHIVES_ONLY).write_text("# not even added\n")
    project.dvc("exp", "run", "--name", "new", "--set-param", "evaluate.confidence=0.9")
    done = project.spacewarps("checkout", id_of(project, "new"), "../tree")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{ARCHIVES_ONLY} had changes" in done.stderr
    assert done.stderr.endswith("in any other; commit first, and run it again\n")
    assert not (tmp_path / "tree").exists()


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
    add_to(project, MARKDOWN)
    project.dvc("repro")
    changed = project.runs()[0].info.run_id
    project.git("checkout", "--quiet", "--force", "HEAD")
    for arguments, told in [
        ((run_id, "../taken"), "is there already"),
        ((str(changed), "../tree"), f"{MARKDOWN} had changes"),
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
