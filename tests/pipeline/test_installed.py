"""A wheel in a new environment, and a project outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from tests.pipeline.project import ROOT, Project
from tiny_project import TINY

pytestmark = pytest.mark.long


def run(*command: str | Path, folder: Path, path: Path | None = None) -> str:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "MLFLOW_", "GIT_", "PYTHON", "SPACEWARPS_"))
    }
    if path:
        clean["PATH"] = f"{path}{os.pathsep}{clean['PATH']}"
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that has the wheel, and borrows the dependencies of this one."""
    tmp_path = tmp_path_factory.mktemp("wheel")
    source = tmp_path / "source"
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT).splitlines():
        if not name.startswith(("tests/", "benchmarks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*build, "--wheel-dir", tmp_path, source, folder=tmp_path)
    shutil.rmtree(source)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    programs = tmp_path / "venv/bin"
    run(programs / "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, folder=tmp_path)
    packages = run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path)
    # A folder on the path, whose own .pth files are not read: so the editable install does not come along.
    Path(packages.strip(), "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


def test_a_project_outside_the_repository_gives_the_same_metrics(
    environment: Path, finished: Project, tmp_path: Path
) -> None:
    said = run(environment / "spacewarps", "init", "mine", folder=tmp_path)
    assert "dvc repro" in said
    project = tmp_path / "mine"
    code = run(environment / "python", "-c", "import spacewarps; print(spacewarps.__file__)", folder=project)
    assert Path(code.strip()).is_relative_to(environment.parent)
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section].update(values)
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    dvc = (environment / "python", "-m", "dvc")
    run(*dvc, "repro", folder=project, path=environment)
    for name in ("reports/metrics.json", "reports/search.json", "models/final/model.json"):
        assert (project / name).read_bytes() == (finished.folder / name).read_bytes()
    outs = [yaml.safe_load((folder / "dvc.lock").read_text())["stages"] for folder in (project, finished.folder)]
    assert [stage["outs"] for stage in outs[0].values()] == [stage["outs"] for stage in outs[1].values()]
    assert "Running stage" not in run(*dvc, "repro", folder=project, path=environment)

    # Other code than recorded: DVC sees nothing of it, so the stage refuses; once recorded, DVC runs what it concerns.
    (demo,) = environment.parent.glob("lib/*/site-packages/spacewarps/evaluation/markdown.py")
    demo.write_text(demo.read_text() + "# changed\n")
    refused = subprocess.run(
        [environment / "spacewarps", "evaluate"], cwd=project, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "spacewarps init --update ." in refused.stderr
    run(environment / "spacewarps", "init", "--update", ".", folder=project)
    again = run(*dvc, "repro", folder=project, path=environment)
    assert again.count("Running stage") == 1
    assert "Running stage 'evaluate'" in again
    run("git", "add", ".", folder=project)
    assert run("git", "ls-files", "--", "code.json", "dvc.lock", "data", folder=project).split() == [
        "code.json",
        "data/.gitignore",
        "dvc.lock",
    ]
