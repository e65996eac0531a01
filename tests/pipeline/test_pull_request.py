"""The comment on a pull request, as `.github/scripts/compare` writes it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.project import ROOT, Project

COMPARE, VALIDATE = (str(ROOT / ".github/scripts" / name) for name in ("compare", "validate"))


@pytest.fixture
def clone(finished: Project, tmp_path: Path) -> Project:
    """A clone as CI has it: what is under git, and no data."""
    finished.git("clone", "--quiet", str(finished.folder), str(tmp_path / "clone"))
    return finished.at(tmp_path / "clone")


def test_a_pull_request_is_told_what_it_changes(clone: Project) -> None:
    params = clone.params()
    params["train"]["epochs"] = 3
    clone.write_params(params)
    metrics = clone.folder / "reports/result.json"
    values = json.loads(metrics.read_text())
    was, values["accuracy"] = values["accuracy"], 0.9876
    metrics.write_text(json.dumps(values))
    clone.commit("A change")
    said = clone.run(COMPARE, "HEAD~1").stdout
    assert said.startswith("## Results against HEAD~1\n\n### Metrics\n\n| Path ")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("|")]
    (changed,) = [row for row in rows if row[1] == "accuracy"]
    assert changed[:4] == ["reports/result.json", "accuracy", f"{was:.5g}", "0.9876"]
    (changed,) = [row for row in rows if row[0] == "params.yaml"]
    assert changed[1:] == ["train.epochs", "2", "3"]
    assert "`dvc repro` would run train" in said


def test_code_that_a_pull_request_deletes_is_no_data_that_was_not_pulled(clone: Project) -> None:
    (clone.folder / "src/spacewarps/survey/tiff.py").unlink()
    clone.commit("Delete code")
    said = clone.run(COMPARE, "HEAD~1").stdout
    assert "`dvc repro` would run prepare. These results are older." in said


def test_a_pull_request_that_changes_no_result_is_told_so(clone: Project) -> None:
    (clone.folder / "README.md").write_text("Words.\n")
    clone.commit("Words")
    said = clone.run(COMPARE, "HEAD~1").stdout
    assert "No metric differs." in said
    assert "No param differs." in said
    assert said.endswith("`dvc.lock` is that of this code and these params.\n")


def test_a_revision_that_the_clone_does_not_have_is_one_line(clone: Project) -> None:
    done = clone.run(COMPARE, "origin/nowhere", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "fetch it first" in done.stderr


def test_plots_are_drawn_beside_those_of_the_other_revision(clone: Project) -> None:
    shutil.rmtree(clone.folder / "models", ignore_errors=True)
    clone.dvc("plots", "diff", "HEAD", "--out", "plots")
    assert "vega" in (clone.folder / "plots/index.html").read_text()


@pytest.mark.long
def test_a_pipeline_is_valid_if_its_lock_is_that_of_its_params_and_all_stages_run(clone: Project) -> None:
    short = ("-S", "search.max_layers=1", "-S", "train.epochs=1")
    before = clone.git("status", "--porcelain")
    said = clone.run(VALIDATE, *short).stdout
    assert said.endswith("validate: params and graph are valid, dvc.lock is up to date, and all stages ran\n")
    assert clone.git("status", "--porcelain") == before
    assert "smoke" not in clone.dvc("exp", "list").stdout

    done = clone.run(VALIDATE, "-S", "train.epochs=0", check=False)
    assert done.returncode != 0
    assert "train.epochs" in done.stdout + done.stderr

    params = clone.params()
    params["train"]["epochs"] = 3
    clone.write_params(params)
    done = clone.run(VALIDATE, *short, check=False)
    assert done.returncode == 1
    assert (
        "validate: dvc.lock is not that of this code and these params: run `dvc repro`, which runs train, "
        in done.stderr
    )

    params["train"]["epochs"] = 0
    clone.write_params(params)
    done = clone.run(VALIDATE, *short, check=False)
    assert done.returncode == 2
    assert "train.epochs" in done.stderr
