import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path / "project")


def contents(project: Project) -> dict[Path, tuple[bytes, float]]:
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime) for path in files}


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def all_claimed(project: Project) -> Iterator[None]:
    """Hold every claim in the journal, as a search that is at work holds some."""
    claims = project.folder / ".spacewarps/journal/claims"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, claims], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield
    holder.communicate()


def test_a_plan_says_what_is_left_to_do_and_writes_nothing(project: Project, spacewarps_here: SpacewarpsHere) -> None:
    (project.folder / ".spacewarps/journal/claims").unlink()
    before = contents(project)
    status, said, errors = spacewarps_here(project, "plan")
    assert (status, errors) == (0, "")
    search, journal, time, training, memory = said.splitlines()
    found = re.fullmatch(r"search: at most 2 steps, 4 candidates, ([\d,]+) stamps to learn from \(each .*\)", search)
    assert found
    samples = (project.folder / "data/prepared/samples.csv").read_text(encoding="utf-8")
    assert int(found[1].replace(",", "")) == 4 * samples.count(",train,")
    assert journal == "  the journal knows 4 of these candidates"
    assert time == "  it knows all that the search asks for, which takes no time"
    assert re.fullmatch(r"final training: 2 epochs, \d+ s", training)
    assert re.fullmatch(r"memory: about [\d,]+ MB, all processes together", memory)
    assert contents(project) == before


@pytest.mark.usefixtures("all_claimed")
@pytest.mark.long
def test_a_plan_waits_for_no_search_that_is_at_work(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spacewarps.cli", "plan"],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "  the journal knows 4 of these candidates" in done.stdout.splitlines()


def test_a_plan_counts_folds_and_what_the_journal_does_not_know(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    params = project.params()
    params["search"] |= {"k_candidates": [3, 5, 7]}
    project.write_params(params)
    _, journal, time, *_ = spacewarps_here(project, "plan")[1].splitlines()
    assert journal == "  the journal knows 2 of these candidates"
    took = r"\d+ s(?: to \d+ s)?"
    assert re.fullmatch(rf"  {took} on 1 worker if all steps are tried: {took}, {took}", time)
    params["search"] |= {"folds": 2, "decides": "loss", "racing": True, "strategy": "beam", "control": True}
    params["train"] |= {"data": "folds", "start": "fresh"}
    project.write_params(params)
    search, journal, time, *_ = spacewarps_here(project, "plan")[1].splitlines()
    found = re.match(r"search: at most 2 steps, 9 candidates and 1 control in 2 folds, ([\d,]+) stamps to", search)
    assert found
    samples = (project.folder / "data/prepared/samples.csv").read_text(encoding="utf-8")
    # Each fold learns from what the other scores on.
    learned = samples.count(",train,") + samples.count(",validation,")
    assert int(found[1].replace(",", "")) == 10 * learned * params["search"]["epochs_per_eval"]
    assert journal == "  the journal knows 0 of these candidates"
    assert "less where candidates are dropped" in time


def test_a_plan_before_there_is_a_survey_says_what_comes_first(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    (project.folder / "data/prepared/survey.json").unlink()
    status, said, errors = spacewarps_here(project, "plan")
    assert (status, said) == (2, "")
    assert errors.endswith("no survey is prepared there yet; run `dvc repro prepare` first\n")
