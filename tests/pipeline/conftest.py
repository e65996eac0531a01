import fcntl
import shutil
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import yaml
from mlflow.tracking._tracking_service import utils as mlflow_utils

from tests.pipeline.project import ROOT, Project
from tiny_project import TINY


class MakeOnce(Protocol):
    def __call__(self, name: str, make: Callable[[Project], object]) -> Project: ...


class SpacewarpsHere(Protocol):
    def __call__(self, project: Project, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    return lambda: Project.create(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """Return a copy of a project that the first worker to need it has made for all."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "shared"

    def make_once(name: str, make: Callable[[Project], object]) -> Project:
        folder, made = shared / name / "project", shared / name / "made"
        folder.mkdir(parents=True, exist_ok=True)
        with (shared / name / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                make(Project.create(folder))
                made.touch()
        return Project(folder).copy(tmp_path_factory.mktemp(name) / "project")

    return make_once


@pytest.fixture(scope="session")
def finished(make_once: MakeOnce) -> Project:
    """A project whose whole pipeline has run once; tests only look at it."""

    def make(project: Project) -> None:
        said = project.dvc("repro").stdout
        project.commit("Run")
        project.said.write_text(said)

    return make_once("finished", make)


@pytest.fixture
def on_prepared(prepared_folder: Path, tmp_path: Path) -> Project:
    """A project that holds no more than params, for one candidate, and a small prepared survey."""
    return project_on(prepared_folder, tmp_path / "project")


def project_on(prepared: Path, folder: Path) -> Project:
    """Return a new project in ``folder`` that holds params, for one candidate, and a copy of a prepared survey."""
    project = Project(folder)
    shutil.copytree(prepared, project.folder / "data/prepared")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TINY.items():
        params[section] |= values
    params["search"] |= {"max_layers": 1, "k_candidates": [3]}
    params["train"] |= {"epochs": 1}
    params["crossvalidate"] = {"folds": 2, "repeats": 1}
    project.write_params(params)
    return project


@pytest.fixture
def spacewarps_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[SpacewarpsHere]:
    """Run a command in this process, which has imported everything; return exit status, output and errors."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for name in ("DVC_ROOT", "DVC_STAGE", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        # Set first, or it would not be taken back what MLflow sets meanwhile.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def run(project: Project, *arguments: str) -> tuple[int, str, str]:
        from spacewarps.cli import main

        capsys.readouterr()
        # MLflow remembers where the artifacts of a run are; a copy of a project has the same runs in another place.
        mlflow_utils._artifact_repos_cache.clear()
        with monkeypatch.context() as inside:
            inside.chdir(project.folder)
            status = main(list(arguments))
        return (status, *capsys.readouterr())

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def bucket() -> Iterator[str]:
    """The address of an S3 server on this machine, whose bucket ``survey`` is empty."""
    pytest.importorskip("dvc_s3")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        address = f"http://127.0.0.1:{port}"
        # All servers of a process have the same buckets, with what other tests have left there.
        for path, method in (("moto-api/reset", "POST"), ("survey", "PUT")):
            with urllib.request.urlopen(urllib.request.Request(f"{address}/{path}", method=method)) as answer:
                assert answer.status == 200
        yield address
    finally:
        server.stop()


def without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the keys of whoever runs the tests."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
