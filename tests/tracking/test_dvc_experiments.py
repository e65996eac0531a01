"""What git has of DVC's experiments."""

import subprocess
from pathlib import Path

import pytest

from spacewarps.tracking.dvc_experiments import list_experiments, read_committed

LOCK = """
stages:
  evaluate: {cmd: b, deps: [{path: code.py}, {path: found}], outs: [{path: reports/metrics.json, md5: "2"}]}
  search: {cmd: a, outs: [{path: found, md5: "1"}]}
  gone: {cmd: c, outs: [{path: old, md5: "3"}]}
"""
FILES = {
    "dvc.yaml": "stages: {search: {cmd: a}, evaluate: {cmd: b}}",
    "dvc.lock": LOCK,
    "params.yaml": "seed: 1\npaths: {reports: reports}\n",
    "code.py": "1",
    "reports/metrics.json": '{"test": {"accuracy": 0.5}}',
}


class Repository:
    """Two projects in one repository."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.one, self.other = folder, folder / "one", folder / "other"
        self.git("init", "--quiet")
        for project in (self.one, self.other):
            for name, text in FILES.items():
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                (project / name).write_text(text)
        self.base = self.commit("HEAD")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, ref: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Go on")
        commit = self.git("rev-parse", "HEAD")
        self.git("update-ref", ref, commit)
        return commit

    def experiment(self, name: str) -> str:
        """Commit what there is as an experiment of DVC's, and go back."""
        commit = self.commit(f"refs/exps/{self.base[:2]}/{self.base[2:]}/{name}")
        self.git("reset", "--quiet", "--hard", self.base)
        return commit


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_experiments_are_listed_with_what_their_commits_hold(repository: Repository) -> None:
    (repository.one / "params.yaml").write_text("seed: 2\npaths: {reports: reports}\n")
    (repository.one / "code.py").write_text("2")
    commit = repository.experiment("it's-mine")
    # DVC's own, beside those of experiments.
    repository.git("update-ref", "refs/exps/exec/EXEC_HEAD", commit)
    (found,) = list_experiments(repository.one)
    assert (found.name, found.baseline, found.commit) == ("it's-mine", repository.base, commit)
    assert found.time // 1000 == int(repository.git("log", "-1", "--format=%ct", commit))
    committed = read_committed(found, repository.one)
    assert committed is not None
    assert {name: stage.hashes for name, stage in committed.stages.items()} == {
        "search": {"found": "1"},
        "evaluate": {"reports/metrics.json": "2"},
    }
    assert committed.last == "evaluate"
    assert committed.params == {"seed": 2, "paths.reports": "reports"}
    assert committed.metrics == {"test.accuracy": 0.5}
    assert committed.changed == ["one/code.py"]


def test_what_changes_another_project_of_the_repository_is_none_of_this_one(repository: Repository) -> None:
    (repository.one / "params.yaml").write_text("seed: 2")
    repository.experiment("of-one")
    (found,) = list_experiments(repository.other)
    assert read_committed(found, repository.one) is not None
    assert read_committed(found, repository.other) is None


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml", "params.yaml"])
@pytest.mark.parametrize("text", ["", "- 1", "stages: 3", "{", "stages: {search: 1}"])
def test_a_commit_that_is_not_of_this_kind_holds_nothing(repository: Repository, name: str, text: str) -> None:
    (repository.one / name).write_text(text)
    repository.experiment("odd")
    (found,) = list_experiments(repository.one)
    committed = read_committed(found, repository.one)
    assert committed is None or name == "params.yaml" or text == "stages: {search: 1}"


def test_outside_of_git_there_are_no_experiments(tmp_path: Path) -> None:
    assert list_experiments(tmp_path) == []
