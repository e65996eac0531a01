"""What a user sees who got something wrong: one line, exit status 2, and earlier outputs as they were."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from spacewarps.cli import main
from spacewarps.files import replaced_directory
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import ROOT, Project


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()


def one_line(done: CompletedProcess[str]) -> str:
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("section", "name", "value", "told"),
    [
        ("search", "max_layer", 6, "did you mean search.max_layers?"),
        ("search", "max_layers", "six", "search.max_layers is 'six'"),
        ("data", "fraction", 1.5, "data.fraction is 1.5"),
        ("compute", "device", "gpu", "compute.device is 'gpu'"),
        ("search", "max_layers", 10**9, "search.max_layers is 1000000000"),
        ("data", "catalog", "data/prepared/mine", "a folder that a stage replaces, and data.catalog lies in it"),
        ("paths", "prepared", "data", "demo and prepared must be folders apart"),
        ("paths", "final", "models/search/final", "final and search must be folders apart"),
        ("paths", "demo", "../demo", "must name a folder inside the project"),
        ("paths", "search", "", "must name a folder inside the project"),
        ("paths", "prepared", "src", "prepared must keep away from src, which no stage may write"),
        ("paths", "search", ".git/models", "search must keep away from .git"),
        ("paths", "journal", "tests/../tests", "must name a folder inside the project"),
        ("data", "catalog", "data/../data/prepared/my/cat.csv", "data.catalog lies in it"),
        ("data", "catalog", "data/demo/my/cat.csv", "paths.demo is data/demo, a folder that a stage replaces"),
        ("data", "images", "data/demo", "paths.demo is data/demo, a folder that a stage replaces"),
        ("data", "catalog", "data/demo/images", "data.catalog lies in it"),
        ("data", "images", "reports/report", "paths.reports is reports"),
        ("data", "images", ".", "it lies in data.images"),
    ],
)
def test_wrong_params_are_named_with_what_is_right(
    project: Project, spacewarps_here: SpacewarpsHere, section: str, name: str, value: object, told: str
) -> None:
    original = project.params()
    project.write_params(original | {section: original[section] | {name: value}})
    try:
        status, _, errors = spacewarps_here(project, "params", "--check")
    finally:
        project.write_params(original)
    assert (status, errors.count("\n")) == (2, 1)
    assert told in errors


def test_places_that_only_look_apart_are_refused(
    project: Project, tmp_path: Path, spacewarps_here: SpacewarpsHere
) -> None:
    original = project.params()
    (tmp_path / "prepared/mine").mkdir(parents=True)
    links = {"data/aside": tmp_path, "data/code": project.folder / "src", "data/up": project.folder}
    for link, target in links.items():
        (project.folder / link).symlink_to(target)
    try:
        for values, told in (
            (
                {"paths": {"prepared": "data/aside/prepared"}, "data": {"catalog": f"{tmp_path}/prepared/mine"}},
                "data.c",
            ),
            (
                {"paths": {"prepared": "data/aside/a", "search": "data/aside/a/b"}},
                "search and prepared must be folders",
            ),
            ({"paths": {"final": "data/code/models"}}, "final must keep away from src"),
            ({"paths": {"final": "data/up"}}, "demo and final must be folders apart"),
        ):
            project.write_params({**original, **{name: original[name] | section for name, section in values.items()}})
            status, _, errors = spacewarps_here(project, "params", "--check")
            assert (status, errors.count("\n")) == (2, 1)
            assert told in errors
    finally:
        project.write_params(original)
        for link in links:
            (project.folder / link).unlink()


def test_a_survey_of_the_users_own_where_the_demo_would_be_is_kept(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    mine = project.folder / "data/demo/catalog/cat.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    status, _, errors = spacewarps_here(project, "simulate")
    assert status == 2
    assert errors.endswith(
        "spacewarps simulate: data/demo would be replaced as a whole, but it holds 'catalog/cat.csv', which was not "
        "written by the stage that replaces it; move or delete what is there, or name another folder\n"
    )
    assert mine.read_text() == "mine"
    mine.unlink()
    mine.parent.rmdir()
    mine.parent.parent.rmdir()


def test_valid_params_pass_and_a_wrong_one_is_one_line(project: Project) -> None:
    done = project.spacewarps("params", "--check")
    assert (done.returncode, done.stdout) == (0, "params.yaml is valid\n")
    original = project.params()
    project.write_params(original | {"seed": "one"})
    try:
        assert "seed is 'one'" in one_line(project.spacewarps("params", "--check"))
    finally:
        project.write_params(original)


def test_a_check_lists_every_fault_and_a_stage_the_first(project: Project, spacewarps_here: SpacewarpsHere) -> None:
    original = project.params()
    wrong = original["train"] | {"start": "cold", "epochs": 0, "a\u202eb": 1}
    project.write_params(original | {"train": wrong})
    try:
        status, said, errors = spacewarps_here(project, "params", "--check")
        of_stage, _, told = spacewarps_here(project, "train")
    finally:
        project.write_params(original)
    assert (status, said, of_stage) == (2, "", 2)
    unknown, *others = errors.splitlines()
    assert unknown.startswith("spacewarps params: params.yaml: train.a b is not a parameter; the names here are ")
    assert others == [
        "spacewarps params: params.yaml: train.start is 'cold', but input should be 'warm' or 'fresh'",
        "spacewarps params: params.yaml: train.epochs is 0, but input should be greater than or equal to 1",
    ]
    assert told == f"{unknown.replace('params:', 'train:', 1)} (and 2 more)\n"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"\u661f"), ("latin-1", r"\u661f"), ("utf-8", "星")])
def test_a_letter_that_the_terminal_does_not_have_is_written_as_its_number(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    params = project.params()
    params["data"]["columns"]["label"] = "星"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    assert main(["params"]) == 0
    assert f"label: {shown}\n" in written.getvalue().decode(encoding)


def test_missing_params_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["params", "--check"]) == 2
    assert "params.yaml" in capsys.readouterr().err


def test_a_bad_survey_leaves_the_earlier_one_in_place(project: Project, tmp_path: Path) -> None:
    original = project.params()
    prepared = project.folder / original["paths"]["prepared"]
    with replaced_directory(prepared) as folder:
        (folder / "samples.csv").write_text("earlier")
    (tmp_path / "catalogue.csv").write_text("name,class\n1,STAR\n")
    params = project.params()
    params["data"]["catalog"] = str(tmp_path / "catalogue.csv")
    params["data"]["images"] = str(tmp_path)
    project.write_params(params)
    try:
        line = one_line(project.spacewarps("prepare"))
    finally:
        project.write_params(original)
    assert "catalogue.csv" in line
    assert "id" in line
    assert [file.name for file in prepared.parent.iterdir() if file.name != ".gitignore"] == ["prepared"]
    assert (prepared / "samples.csv").read_text() == "earlier"


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("catalog", "no such file or folder; point data.catalog at one catalogue or a folder of them"),
        ("images", "no such folder; point data.images at the folder of stamps"),
    ],
)
def test_a_survey_that_is_not_there_is_named_with_its_param(
    project: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path, param: str, told: str
) -> None:
    (tmp_path / "catalog.csv").write_text("id,class,ra,dec,z,z_err\n1,STAR,1,1,0.1,0.1\n2,GALAXY,2,2,0.1,0.1\n")
    survey = {"catalog": str(tmp_path / "catalog.csv"), "images": str(tmp_path), param: str(tmp_path / "nothing")}
    original = project.params()
    project.write_params(original | {"data": original["data"] | survey})
    try:
        status, _, errors = spacewarps_here(project, "prepare")
    finally:
        project.write_params(original)
    assert (status, errors.splitlines()[-1]) == (2, f"spacewarps prepare: {tmp_path / 'nothing'}: {told}")


def test_a_git_that_changes_line_ends_changes_none_here(project: Project, tmp_path: Path) -> None:
    project.git("-c", "core.autocrlf=true", "clone", "--quiet", str(project.folder), str(tmp_path / "clone"))
    for name in ("dvc.yaml", "src/spacewarps/seeds.py"):
        assert (tmp_path / "clone" / name).read_bytes() == (project.folder / name).read_bytes()


def test_the_demo_says_what_to_do_without_a_git_repository(project: Project, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = project.run("make", "-C", str(tmp_path), "demo", check=False)
    assert done.returncode == 2
    assert "make one: git init && git add --all && git commit" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(("stage", "told"), [("train", "models/search"), ("result", "dvc repro")])
def test_a_stage_without_its_inputs_says_which(
    project: Project, spacewarps_here: SpacewarpsHere, stage: str, told: str
) -> None:
    status, _, errors = spacewarps_here(project, stage)
    assert (status, errors.count("\n")) == (2, 1)
    assert told in errors


@pytest.mark.parametrize("stage", ["search", "train", "evaluate", "crossvalidate", "predict", "fetch"])
def test_a_stage_that_fails_before_its_work_is_a_failed_run(
    on_prepared: Project, spacewarps_here: SpacewarpsHere, stage: str
) -> None:
    shutil.rmtree(on_prepared.folder / "data")
    status, _, errors = spacewarps_here(on_prepared, stage)
    assert (status, errors.splitlines()[-1].partition(":")[0]) == (2, f"spacewarps {stage}")
    runs = {str(run.info.run_name): run.info.status for run in on_prepared.runs()}
    assert runs == {stage: "FAILED", "pipeline": "FAILED"}


def test_a_tag_that_does_not_fit_its_value_is_no_traceback(project: Project, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: !!bool x\n")
    done = project.run("env", "-C", str(tmp_path), "spacewarps", "params", "--check", check=False)
    assert "not valid YAML" in one_line(done)


@pytest.mark.parametrize("content", ["[", "{}", '{"test": {}, "baseline": {}}', '{"test": [], "baseline": {}}'])
def test_damaged_metrics_are_named(project: Project, spacewarps_here: SpacewarpsHere, content: str) -> None:
    report = project.folder / "reports/report/report.md"
    report.parent.mkdir(exist_ok=True)
    report.write_text("earlier")
    (project.folder / "reports/metrics.json").write_text(content)
    status, _, errors = spacewarps_here(project, "result")
    assert (status, errors.count("\n")) == (2, 1)
    assert "metrics.json: damaged" in errors
    report.unlink()
    (project.folder / "reports/metrics.json").unlink()


def test_an_unreachable_mlflow_is_named(project: Project) -> None:
    done = project.run(
        "env", "MLFLOW_TRACKING_URI=nonsense://nowhere", "python", "-m", "spacewarps.cli", "simulate", check=False
    )
    assert "MLFLOW_TRACKING_URI" in one_line(done)
