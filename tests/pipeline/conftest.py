import copy
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "compute": {"threads": 1},
    "simulate": {"n_samples": 90},
    # Where the executor does not matter, no test waits for processes to start.
    "search": {"max_layers": 2, "k_candidates": [3, 5], "epochs_per_eval": 1, "threads": 1, "executor": "inline"},
    "train": {"epochs": 2},
    "evaluate": {"bootstrap_resamples": 200},
}


class Project:
    """A copy of the project with a small survey and short searches, under git and DVC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: What the whole pipeline said, once it has run.
        self.said = ""
        for name in ("dvc.yaml", ".dvcignore", ".gitattributes", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
        for name in ("data", "models", "reports"):
            (folder / name).mkdir()
            shutil.copy(ROOT / name / ".gitignore", folder / name / ".gitignore")
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        for section, values in TINY.items():
            params[section].update(values)
        self.write_params(params)
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.commit("Start")

    def write_params(self, params: dict) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def params(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text())

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

    def spacewarps(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "spacewarps.cli", *arguments, check=False)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, as a terminal does."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def copy(self, folder: Path) -> "Project":
        """Return the same project in another folder, its journal and its MLflow included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return self.at(folder)

    def at(self, folder: Path) -> "Project":
        """Return what stands in another folder."""
        other = copy.copy(self)
        other.folder = folder
        return other

    def lock(self) -> dict:
        return yaml.safe_load((self.folder / "dvc.lock").read_text())


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    return lambda: Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def finished(make_project: Callable[[], Project]) -> Project:
    """A project whose whole pipeline has run once; tests only look at it."""
    project = make_project()
    project.said = project.dvc("repro").stdout
    project.commit("Run")
    return project


@pytest.fixture
def spacewarps_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run a command in this process, which has imported everything; return exit status, output and errors."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for name in ("DVC_ROOT", "DVC_STAGE", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)

    def run(project: Project, *arguments: str) -> tuple[int, str, str]:
        from spacewarps.cli import main

        capsys.readouterr()
        with monkeypatch.context() as inside:
            inside.chdir(project.folder)
            status = main(list(arguments))
        return (status, *capsys.readouterr())

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
