import shutil
from pathlib import Path

import pytest

from spacewarps.commands.checkout import _add_worktree
from spacewarps.commands.revisions import find_revision
from spacewarps.errors import SpaceWarpsError
from spacewarps.git import run_git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    run_git(folder, "init", "--quiet")
    user = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    run_git(folder, *user, "commit", "--quiet", "--allow-empty", "--message", "Start")
    return folder


def test_a_folder_of_another_user_is_told_with_what_helps(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By this git's own tests have it believe that the owner is another.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    told = f"another user's repository.*`git config --global --add safe.directory {repository}` helps"
    for may_fail in (True, False):
        with pytest.raises(SpaceWarpsError, match=told):
            run_git(repository, "rev-parse", "HEAD", may_fail=may_fail)
    with pytest.raises(SpaceWarpsError, match=told):
        find_revision("HEAD")


def test_the_line_that_says_what_is_wrong_is_told_and_not_a_hint(repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    run_git(repository, "worktree", "add", "--quiet", "--detach", str(tree))
    shutil.rmtree(tree)
    with pytest.raises(SpaceWarpsError, match=r"fatal: .* is a missing but already registered worktree"):
        run_git(repository, "worktree", "add", "--quiet", "--detach", str(tree))


def test_a_working_tree_that_was_removed_without_git_is_told(repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    _add_worktree(repository, tree, "HEAD")
    shutil.rmtree(tree)
    with pytest.raises(SpaceWarpsError, match=r"tree is gone, but git still has it .*`git worktree prune` helps$"):
        _add_worktree(repository, tree, "HEAD")
    run_git(repository, "worktree", "prune")
    _add_worktree(repository, tree, "HEAD")
