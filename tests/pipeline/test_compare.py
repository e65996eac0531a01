import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project
from tests.pipeline.results import draw_answers, make_project, write_result


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with tags `plain` and `elsewhere`, of another test split, and a branch `better`, which is beyond doubt.

    The files as they are are those of `better`.
    """
    project = Project(tmp_path_factory.mktemp("project"))
    make_project(project)
    write_result(project, draw_answers(1), epochs=3)
    project.git("tag", "--annotate", "--message", "x", "plain")
    write_result(project, draw_answers(1, first=40), prepared="other", epochs=3)
    project.git("tag", "elsewhere")
    write_result(project, draw_answers(2, better=1.0), k=16, epochs=4, average=0.9)
    project.git("branch", "better")
    return project


def test_what_differs_is_told_and_that_it_is_more_than_noise(
    compared: Project, spacewarps_here: SpacewarpsHere
) -> None:
    status, said, errors = spacewarps_here(compared, "compare", "plain")
    assert (status, errors) == (0, "")
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    commit = compared.git("rev-parse", "plain^{commit}")[:7]
    assert lines[:2] == [f"A: plain ({commit})", "B: workspace"]
    cells = [line.split() for line in lines]
    assert ["train.epochs", "3", "4"] in cells
    assert ["train.average", "0.0", "0.9"] in cells
    assert sum(cell[:1] == ["train"] or cell[0].startswith("train.") for cell in cells if cell) == 2
    assert {"data: the same", "code: the same"} <= set(lines)
    assert ["blocks", "conv", "k=8", "conv", "k=16"] in cells
    assert lines[-4].startswith("Both answered the same 200 test samples of 100 sources.")
    assert lines[-2].startswith("  log loss ")
    assert lines[-2].endswith(" lower: better, by more than noise")


def test_the_other_way_round_is_worse_and_beside_itself_nothing(
    compared: Project, spacewarps_here: SpacewarpsHere
) -> None:
    _, said, _ = spacewarps_here(compared, "compare", "better", "plain")
    assert " higher: worse, by more than noise\n" in said
    _, said, _ = spacewarps_here(compared, "compare", "better")
    assert {"params: the same", "data: the same", "code: the same"} <= set(said.splitlines())
    assert said.count("0.0000 +- 0.0000") == said.count(": no difference\n") == 2


def test_other_test_samples_are_not_paired_and_it_is_said(compared: Project, spacewarps_here: SpacewarpsHere) -> None:
    status, said, _ = spacewarps_here(compared, "compare", "elsewhere", "plain")
    assert status == 0
    assert max(map(len, said.splitlines())) <= 80
    assert "\n  prepared survey" in said
    together = " ".join(said.split())
    assert "the test splits differ (120 samples in both, 80 only in A, 80 only in B)" in together
    assert "Not paired, so whether the difference is more than noise cannot be said" in together
    assert "+-" not in said


def test_answers_that_are_not_in_the_cache_leave_the_figures_of_git(
    compared: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    compared.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = compared.at(tmp_path / "clone")
    status, said, errors = spacewarps_here(clone, "compare", "plain", "origin/better")
    assert (status, errors) == (0, "")
    together = " ".join(said.split())
    assert "the answers of plain cannot be had (reports/report/predictions.csv is neither in the cache of" in together
    assert "B less A: log loss -0." in together


def test_a_project_below_the_top_of_the_repository_is_compared(
    compared: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    top = compared.copy(tmp_path / "top" / "project").at(tmp_path / "top")
    below = compared.at(tmp_path / "top" / "project")
    shutil.rmtree(below.folder / ".git")
    top.git("init", "--quiet")
    top.commit("Start")
    status, said, errors = spacewarps_here(below, "compare", "HEAD")
    assert (status, errors) == (0, "")
    assert said.count(": no difference\n") == 2
    # The commit has the project at another place.
    top.git("mv", "project", "moved")
    status, _, errors = spacewarps_here(compared.at(tmp_path / "top" / "moved"), "compare", "HEAD")
    assert (status, errors.count("\n")) == (2, 1)
    assert "dvc.lock tells of no result (there is none)" in errors


def test_data_that_the_cache_lacks_is_had_from_a_remote_younger_than_the_commit(
    compared: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = compared.copy(tmp_path / "project")
    project.dvc("remote", "add", "--default", "lab", "../remote")
    project.dvc("push")
    project.commit("Name a remote")
    shutil.rmtree(project.folder / ".dvc/cache")
    status, said, errors = spacewarps_here(project, "compare", "better")
    assert (status, errors) == (0, "")
    assert "Both answered the same 200 test samples" in said


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bettr", "no experiment, branch, tag or commit is called 'bettr'; did you mean better?"),
        (
            "",
            "no experiment, branch, tag or commit is called ''; there are better, elsewhere, master, plain, workspace",
        ),
        ("a\nb", "is called 'a\\nb'; there are "),
        ("plain:dvc.lock", "is called 'plain:dvc.lock'; "),
        ("plain^{tree}", "is called 'plain^{tree}'; "),
    ],
)
def test_a_name_of_nothing_is_refused_with_those_that_are_close(
    compared: Project, spacewarps_here: SpacewarpsHere, name: str, told: str
) -> None:
    status, said, errors = spacewarps_here(compared, "compare", name)
    assert (status, said, errors.count("\n")) == (2, "", 1)
    assert told in errors


@pytest.mark.parametrize("name", ["HEAD", "main", "nothing"])
def test_without_a_commit_it_is_said(tmp_path: Path, spacewarps_here: SpacewarpsHere, name: str) -> None:
    project = Project(tmp_path)
    make_project(project)
    shutil.rmtree(tmp_path / ".git")
    project.git("init", "--quiet")
    status, said, errors = spacewarps_here(project, "compare", name)
    assert (status, said) == (2, "")
    assert errors == f"spacewarps compare: git has no commit here yet, so there is no {name!r}; commit a result first\n"


def test_a_branch_without_a_commit_has_the_names_of_others(
    compared: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(compared.folder, project.folder)
    project.git("checkout", "--quiet", "--orphan", "new")
    status, said, errors = spacewarps_here(project, "compare", "bettor")
    assert (status, said) == (2, "")
    assert errors.endswith(" is called 'bettor'; did you mean better?\n")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("dvc.lock", None, "workspace: dvc.lock tells of no result (there is none); run `dvc repro` there first"),
        ("dvc.lock", "stages: {}", "dvc.lock tells of no result (it holds no stage evaluate)"),
        ("reports/metrics.json", None, "workspace: reports/metrics.json is not there; run `dvc repro` there first"),
        ("reports/metrics.json", "{}", "workspace: reports/metrics.json: damaged ('test': Field required)"),
        ("reports/search.json", "[", "workspace: reports/search.json: damaged (Invalid JSON"),
    ],
)
def test_a_result_that_is_missing_or_damaged_is_named(
    compared: Project, spacewarps_here: SpacewarpsHere, file: str, content: str | None, told: str
) -> None:
    path = compared.folder / file
    original = path.read_bytes()
    path.unlink() if content is None else path.write_text(content)
    try:
        status, _, errors = spacewarps_here(compared, "compare", "plain")
    finally:
        path.write_bytes(original)
    assert (status, errors.count("\n")) == (2, 1)
    assert told in errors


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("id,source", "id,sauce", "is damaged (the columns should be"),
        ("s00001,", "s00000,", "is damaged (the id 's00000' appears twice)"),
        ("p_GALAXY", "p_COMET", "is damaged (the label 'GALAXY' is none of the classes)"),
        (",GALAXY,", ",STAR,", "is of another run than metrics.json"),
    ],
)
def test_answers_that_are_damaged_or_of_another_run_are_not_paired(
    compared: Project, spacewarps_here: SpacewarpsHere, old: str, new: str, told: str
) -> None:
    path = compared.folder / "reports/report/predictions.csv"
    original = path.read_text()
    path.unlink()
    path.write_text(original.replace(old, new, 1))
    try:
        status, said, _ = spacewarps_here(compared, "compare", "plain")
    finally:
        path.write_text(original)
    assert status == 0
    assert "Not paired" in said
    assert told in " ".join(said.split())


def test_params_that_have_changed_since_are_told_of_the_workspace(
    compared: Project, spacewarps_here: SpacewarpsHere
) -> None:
    original = compared.params()
    compared.write_params(original | {"train": original["train"] | {"epochs": 7}})
    try:
        _, said, _ = spacewarps_here(compared, "compare", "plain")
    finally:
        compared.write_params(original)
    assert "note: train.epochs is 7, but these results are of 4" in " ".join(said.split())


def test_results_that_are_not_of_one_run_are_not_compared(
    compared: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = compared.copy(tmp_path / "project")
    lock = project.folder / "dvc.lock"
    prepared = project.lock()["stages"]["prepare"]["outs"][0]["md5"]
    # Prepared anew, but not evaluated.
    lock.write_text(lock.read_text().replace(prepared, "f" * 32, 1))
    project.commit("Half")
    project.git("restore", "--source=HEAD~1", "dvc.lock")
    for arguments in (("HEAD",), ("plain", "HEAD")):
        status, said, errors = spacewarps_here(project, "compare", *arguments)
        assert (status, said, errors.count("\n")) == (2, "", 1)
        assert "HEAD: the results of evaluate are of another data/prepared than the one that dvc.lock has of" in errors
    # Evaluated by hand.
    metrics = project.folder / "reports/metrics.json"
    metrics.write_text(f"{metrics.read_text()} ")
    status, said, errors = spacewarps_here(project, "compare", "plain")
    assert (status, said, errors.count("\n")) == (2, "", 1)
    assert "workspace: reports/metrics.json is not the one that dvc.lock has of evaluate" in errors


@pytest.mark.long
def test_an_experiment_is_compared_with_what_it_came_from(finished: Project, spacewarps_here: SpacewarpsHere) -> None:
    finished.dvc("exp", "run", "--name", "longer", "--set-param", "train.epochs=4")
    finished.git("restore", ".")
    finished.dvc("checkout")
    status, said, errors = spacewarps_here(finished, "compare", "longer")
    assert (status, errors) == (0, "")
    assert [line.split() for line in said.splitlines()].count(["train.epochs", "4", "2"]) == 1
    assert {"data: the same", "code: the same"} <= set(said.splitlines())
    assert "Both answered the same 15 test samples of 11 sources." in said
