"""Which commits may have what a run had changed, in a repository without DVC."""

from pathlib import Path

import pytest

from spacewarps.commands.committed_changes import commit_of_experiment, commits_with_changes, experiment_at
from spacewarps.git import run_git
from spacewarps.tracking.recorded_run import RecordedRun

LOCK = Path("dvc.lock")


class Repository:
    """A project in a folder of a repository."""

    def __init__(self, folder: Path) -> None:
        self.top, self.project = folder, folder / "surveys"
        self.project.mkdir()
        self.git("init", "--quiet")
        for name in ("user.name", "user.email"):
            self.git("config", name, "A")
        self.start = self.commit(code="", digest="aaa")

    def git(self, *arguments: str) -> str:
        return run_git(self.top, *arguments).stdout.strip()

    def commit(self, code: str, digest: str) -> str:
        """Commit a module and a lock."""
        (self.project / "née.py").write_text(code)
        (self.project / LOCK).write_text(f"stages:\n  train:\n    outs:\n    - path: models\n      md5: {digest}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", code + digest)
        return self.git("rev-parse", "HEAD")

    def aside(self, ref: str, code: str, digest: str) -> str:
        """Commit on top of the start, for a ref alone."""
        self.git("checkout", "--quiet", "--detach", self.start)
        made = self.commit(code, digest)
        self.git("update-ref", ref, made)
        self.git("checkout", "--quiet", "--detach", self.start)
        return made

    def experiment(self, name: str, code: str, digest: str) -> str:
        return self.aside(f"refs/exps/{self.start[:2]}/{self.start[2:]}/{name}", code, digest)

    def run(self, experiment: str | None = None, changed: str = "surveys/née.py") -> RecordedRun:
        return RecordedRun("1", "run", self.start, experiment, b"", [changed], Path("dvc.yaml"), {"models": "bbb"})


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_commit_with_the_changes_and_the_results_is_found_and_the_runs_own_experiment_first(
    repository: Repository,
) -> None:
    own = repository.experiment("own", code="# one", digest="bbb")
    branch = repository.aside("refs/heads/later", code="# other", digest="bbb")
    found = commits_with_changes(repository.run("own"), repository.project, [LOCK])
    assert (found[0], set(found)) == (own, {own, branch})
    assert commit_of_experiment(repository.run("own"), repository.project) == own
    assert [experiment_at(commit, repository.project) for commit in found] == ["own", None]


def test_a_commit_without_the_changes_or_with_other_results_is_not(repository: Repository) -> None:
    repository.experiment("unchanged", code="", digest="bbb")
    repository.experiment("other", code="# one", digest="ccc")
    run = repository.run("gone")
    assert commits_with_changes(run, repository.project, [LOCK]) == []
    assert commit_of_experiment(run, repository.project) is None
    repository.experiment("both", code="# one", digest="bbb")
    assert len(commits_with_changes(run, repository.project, [LOCK])) == 1
    # Another file than the one that was changed.
    assert commits_with_changes(repository.run(changed="surveys/new.py"), repository.project, [LOCK]) == []


def test_code_and_results_may_be_committed_one_after_the_other(repository: Repository) -> None:
    repository.commit(code="", digest="bbb")
    code = repository.commit(code="# one", digest="bbb")
    assert commits_with_changes(repository.run(), repository.project, [LOCK]) == [code]
