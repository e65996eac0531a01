"""Two runs of the pipeline in one folder would overwrite each other's params and outputs."""

import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from spacewarps.errors import SpaceWarpsError
from spacewarps.processes import name_of
from spacewarps.stages.one_run import one_run_at_a_time
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project

REFUSED = re.compile(
    r"spacewarps \w+: another run of the pipeline works in this folder \(process \d+, for \d+ min\); wait for it, or "
    r"use `dvc exp run --temp` or `--queue`, which work in folders of their own\n"
)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path / "project")


def files(project: Project) -> dict[Path, bytes]:
    places = [project.folder / name for name in ("data", "models", "reports")]
    return {path: path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}


@pytest.mark.long
def test_a_second_run_is_refused_before_it_touches_a_file(project: Project) -> None:
    params = project.params()
    params["search"] |= {"epochs_per_eval": 5000}
    project.write_params(params)
    before = files(project)
    with project.start("spacewarps.cli", "search") as search:
        deadline = time.monotonic() + 120
        while not any(run.info.status == "RUNNING" for run in project.runs()):
            assert search.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for stage in ("prepare", "train"):
            done = project.spacewarps(stage)
            assert (done.returncode, done.stdout) == (2, "")
            assert REFUSED.fullmatch(done.stderr), done.stderr
        # DVC's own stage, too; and what writes nothing is not kept out.
        repro = project.dvc("repro", "--single-item", "--force", "prepare", check=False)
        assert repro.returncode != 0
        assert REFUSED.search(repro.stderr)
        assert project.spacewarps("plan").returncode == 0
        assert files(project) == before
        search.kill()
    assert project.spacewarps("prepare").returncode == 0


@pytest.mark.long
def test_stages_of_one_run_and_runs_after_each_other_are_not_kept_out(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(project, "prepare")[0] == 0
    # This process lives, but its stage is over.
    assert project.spacewarps("prepare").returncode == 0
    project.dvc("repro", "--force", "prepare")


@pytest.mark.parametrize("note", ["", "what another version wrote", "nobody knows 1 1.00"])
def test_a_note_that_nobody_can_read_keeps_nobody_out(
    project: Project, spacewarps_here: SpacewarpsHere, note: str
) -> None:
    (project.folder / ".spacewarps/run").write_text(note, encoding="utf-8")
    assert spacewarps_here(project, "prepare")[0] == 0


@pytest.mark.parametrize("there", [b"\xff\xfe" * 150, b"", b"no process\nof any folder"])
def test_a_damaged_note_keeps_nobody_out(there: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    note = tmp_path / ".spacewarps" / "run"
    note.parent.mkdir()
    note.write_bytes(there)
    with one_run_at_a_time():
        assert note.read_text().splitlines()[1] == str(tmp_path)


def test_a_copy_of_a_folder_is_free_while_a_run_works_in_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        for folder, works_there in ((tmp_path / "original", True), (tmp_path / "copy", False)):
            (folder / ".spacewarps").mkdir(parents=True)
            note = f"{name_of(psutil.Process(other.pid))}\n{tmp_path / 'original'}"
            (folder / ".spacewarps" / "run").write_text(note)
            monkeypatch.chdir(folder)
            with pytest.raises(SpaceWarpsError) if works_there else nullcontext(), one_run_at_a_time():
                pass
        other.communicate()
