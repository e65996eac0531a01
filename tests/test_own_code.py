import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spacewarps.cli import main
from spacewarps.own_code import run_own_code

ROOT = Path(__file__).parents[1]
SAID = "params.yaml is valid\n"


def run(folder: Path, *command: str, first: Path = ROOT / "src") -> tuple[int, str, str]:
    """Run a command with this project's code as the package that the environment has installed."""
    environment = {**os.environ, "PYTHONPATH": str(first)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with params and no code."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def project(folder: Path) -> Path:
    """A project whose code says something else than this one's."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    cli = folder / "src/spacewarps/cli.py"
    code = cli.read_text(encoding="utf-8")
    assert "params.yaml is valid" in code
    cli.write_text(code.replace("params.yaml is valid", "this folder's own code"), encoding="utf-8")
    return folder


SCRIPT = str(Path(sys.executable).with_name("spacewarps"))


@pytest.mark.parametrize("command", [[SCRIPT], [sys.executable, "-m", "spacewarps.cli"]], ids=["script", "module"])
def test_a_project_runs_its_own_code(project: Path, command: list[str]) -> None:
    assert run(project, *command, "params", "--check") == (0, "this folder's own code\n", "")


def test_a_link_to_the_code_that_runs_is_the_same_code(folder: Path) -> None:
    (folder / "src").symlink_to(ROOT / "src")
    assert run(folder, SCRIPT, "params", "--check") == (0, SAID, "")


def test_a_folder_without_code_runs_what_is_installed(folder: Path) -> None:
    (folder / "src").mkdir()
    assert run(folder, SCRIPT, "params", "--check") == (0, SAID, "")


def test_another_code_that_cannot_be_put_first_is_refused(project: Path) -> None:
    insists = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nfrom spacewarps.cli import main\nsys.exit(main())"
    )
    status, said, errors = run(project, sys.executable, "-c", insists, "params", "--check")
    assert (status, said, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"spacewarps: {project / 'src/spacewarps'} is the code of this folder, but {ROOT / 'src'}")


def test_a_caller_from_python_keeps_the_code_that_it_imported(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["params", "--check"]) == 0
    assert capsys.readouterr().out == SAID


def test_the_code_of_this_very_folder_just_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_own_code()
