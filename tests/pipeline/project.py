"""A project for tests that drive the pipeline as its users do."""

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tiny_project import TINY, processes_of_session

ROOT = Path(__file__).resolve().parents[2]
#: The sections of ``params.yaml``, ``seed`` among them.
Params = dict[str, Any]


class Project:
    """A copy of the project with a small survey and short searches, under git and DVC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Where it was made; a copy remembers.
        self.made_in = folder
        #: What its commands find in their environment beside the usual.
        self.variables: dict[str, str] = {}

    @classmethod
    def create(cls, folder: Path) -> "Project":
        """Make a project in an empty folder."""
        for name in (
            "dvc.yaml",
            "crossvalidation/dvc.yaml",
            "prediction/dvc.yaml",
            "fetching/dvc.yaml",
            ".dvcignore",
            ".gitattributes",
            ".gitignore",
            ".dvc/config",
            ".dvc/.gitignore",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
        for name in ("data", "models", "reports"):
            (folder / name).mkdir()
            shutil.copy(ROOT / name / ".gitignore", folder / name / ".gitignore")
        # With what Python has compiled, but for the names under which another test is just writing it.
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.pyc.*", "*.egg-info"))
        params: Params = yaml.safe_load((ROOT / "params.yaml").read_text())
        for section, values in TINY.items():
            params[section].update(values)
        project = cls(folder)
        project.write_params(params)
        project.git("init", "--quiet")
        project.commit("Start")
        return project

    @property
    def said(self) -> Path:
        """The file that holds what the whole pipeline said, once it has run."""
        return self.made_in.with_name("said.txt")

    def write_params(self, params: Params) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def params(self) -> Params:
        params: Params = yaml.safe_load((self.folder / "params.yaml").read_text())
        return params

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "GIT_"))}
        return {
            **clean,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.org",
            **self.variables,
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if check:
            assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
        return done

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check)

    def experiments(self, columns: int = 80) -> list[str]:
        """Return the lines that ``make experiments`` shows in a terminal of a width."""
        wide = self.at(self.folder)
        wide.variables = {**self.variables, "COLUMNS": str(columns)}
        return wide.run(*self.make_command("experiments")).stdout.splitlines()

    @staticmethod
    def make_command(*arguments: str) -> list[str]:
        """Return the command of a target of the Makefile, with the environment that the tests run in."""
        return ["make", "--silent", f"--makefile={ROOT / 'Makefile'}", "--old-file=.venv/.ready", *arguments]

    def spacewarps(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "spacewarps.cli", *arguments, check=False)

    @contextlib.contextmanager
    def start(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command in a session of its own, as a terminal does, and leave nothing of it when a test fails."""
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for left in processes_of_session(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
            process.communicate()

    def copy(self, folder: Path) -> "Project":
        """Return the same project in another folder, its journal and its MLflow included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return self.at(folder)

    def at(self, folder: Path) -> "Project":
        """Return what stands in another folder."""
        other = copy.copy(self)
        other.folder = folder
        return other

    def lock(self) -> dict[str, Any]:
        lock: dict[str, Any] = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return lock

    def entries(self) -> dict[str, bytes]:
        """Return the journal's entries by their names."""
        return {path.name: path.read_bytes() for path in (self.folder / ".spacewarps/journal").glob("*.candidate")}

    def runs(self) -> list[Run]:
        """Return what MLflow shows, the latest first."""
        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("space-warps")
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], max_results=1000))


def wait_until_nothing_runs(leader: int) -> None:
    """Wait for the end of a command that was killed, and of all that it started."""
    deadline = time.monotonic() + 60
    while left := processes_of_session(leader):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
