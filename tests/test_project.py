import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spacewarps.cli import main
from spacewarps.project_files import PROJECT_FILES
from spacewarps.provenance import fingerprint_of_code
from spacewarps.recorded_code import PIPELINE_STAGES

ROOT = Path(__file__).parents[1]
SCRIPT = str(Path(sys.executable).with_name("spacewarps"))
WRITTEN = {*PROJECT_FILES, "code.json"}


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() and path.relative_to(folder).parts[0] != ".git"
    }


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_new_project_is_the_repositorys_without_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "my survey"]) == 0
    said = capsys.readouterr().out
    assert "\n  cd 'my survey'\n" in said
    assert said.endswith("  dvc repro\n")
    project = tmp_path / "my survey"
    assert files(project) == WRITTEN
    for name in set(PROJECT_FILES) - {*PIPELINES}:
        assert (project / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_every_template_and_ignore_file_of_the_repository_goes_along() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", ".dvc", ":(glob)**/.gitignore", ":(exclude)docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(tracked.stdout.split()) <= set(PROJECT_FILES)


PIPELINES = {
    "dvc.yaml": ["simulate", "prepare", "search", "train", "evaluate"],
    "crossvalidation/dvc.yaml": ["crossvalidate"],
    "prediction/dvc.yaml": ["predict"],
    "fetching/dvc.yaml": ["fetch"],
}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_stages_depend_on_their_own_hash_in_place_of_their_files(tmp_path: Path, pipeline: str) -> None:
    main(["init", "new"])
    written = (tmp_path / "new" / pipeline).read_text(encoding="utf-8")
    original = (ROOT / pipeline).read_text(encoding="utf-8")
    found, expected = yaml.safe_load(written), yaml.safe_load(original)
    for name, stage in expected["stages"].items():
        own = {"code.json": [name]}
        found["stages"][name]["params"].remove(own)
        stage["deps"] = [dep for dep in stage["deps"] if not dep.startswith("src/")]
        if not stage["deps"]:
            del stage["deps"]
    assert found == expected
    assert [line for line in written.splitlines() if "#" in line] == [
        line for line in original.splitlines() if "#" in line
    ]
    assert list(expected["stages"]) == PIPELINES[pipeline]
    assert [stage for stages in PIPELINES.values() for stage in stages] == list(PIPELINE_STAGES)
    recorded = json.loads((tmp_path / "new/code.json").read_text(encoding="utf-8"))
    assert {name: recorded[name] for name in PIPELINE_STAGES} == {
        name: fingerprint_of_code(f"stages.{name}") for name in PIPELINE_STAGES
    }


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_file_that_is_there_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = tmp_path / "here" / name
    mine.parent.mkdir(parents=True)
    mine.symlink_to("nowhere")
    assert f"here/{name} is there already" in refusal(capsys, "init", "here")
    assert files(tmp_path) == {f"here/{name}"}
    assert not (tmp_path / "here/.git").exists()


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for folder in ("file", "file/below/it"):
        assert f"{tmp_path / 'file'} is a file" in refusal(capsys, "init", folder)
    assert files(tmp_path) == {"file"}


@pytest.mark.parametrize("target", ["link", "nowhere", "nowhere/below"])
@pytest.mark.parametrize("folder", ["link", "link/below"])
def test_a_link_to_nothing_or_to_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, folder: str
) -> None:
    (tmp_path / "link").symlink_to(target)
    line = refusal(capsys, "init", folder)
    assert "link is a link to nothing, or to itself; remove it, or name another folder" in line
    assert files(tmp_path) == {"link"}


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("below", ["", "/new/deep"])
def test_where_git_has_no_work_tree_there_is_no_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bare: bool, below: str
) -> None:
    git("init", "--quiet", *(["--bare", "repository"] if bare else ["."]))
    folder = tmp_path / ("repository" if bare else ".git/info")
    before = set(folder.rglob("*"))
    assert f"{folder} is git's own folder, or a bare repository's" in refusal(capsys, "init", f"{folder}{below}")
    assert set(folder.rglob("*")) == before


def test_no_name_is_not_taken_for_this_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["init", ""])
    assert caught.value.code == 2
    assert "name a folder; `.` is this one" in capsys.readouterr().err
    assert not files(tmp_path)


def test_where_git_can_make_no_repository_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "init.defaultBranch")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "no..branch")
    (tmp_path / "mine").mkdir()
    for folder in ("new/below", "mine"):
        assert "git init failed" in refusal(capsys, "init", folder)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_the_advice_for_a_name_that_begins_with_a_dash_can_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--", "-dash"]) == 0
    (advice,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  cd ")]
    shown = subprocess.run(["bash", "-c", f"{advice} && pwd"], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(tmp_path / "-dash")


def test_without_git_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in refusal(capsys, "init", "new")
    assert not list(tmp_path.iterdir())


def test_a_git_repository_that_fails_is_no_reason_to_make_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git("init", "--quiet")
    (tmp_path / ".git/config").write_text("[core\n", encoding="utf-8")
    assert "git cannot be used" in refusal(capsys, "init", "new")
    assert not (tmp_path / "new").exists()


def test_below_a_git_repository_no_other_is_made_and_nothing_committed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git("init", "--quiet")
    (tmp_path / "other").touch()
    assert main(["init", "deep/below"]) == 0
    assert "cd deep/below" in capsys.readouterr().out
    assert not (tmp_path / "deep/below/.git").exists()
    assert git("rev-list", "--all", "--count").strip() == "0"
    assert git("diff", "--cached", "--name-only") == ""
    dvc = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd="deep/below", capture_output=True, text=True, check=True
    )
    assert {stage.rpartition(":")[2] for stage in json.loads(dvc.stdout)} == set(PIPELINE_STAGES)


def test_what_git_ignores_dvc_would_not_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text("/scratch/\n", encoding="utf-8")
    assert "git ignores scratch/new" in refusal(capsys, "init", "scratch/new")
    assert files(tmp_path) == {".gitignore"}


def test_a_project_with_code_of_its_own_makes_one_that_records_the_installed_code(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with (tmp_path / "src/spacewarps/seeds.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    subprocess.run([SCRIPT, "init", "new"], check=True, capture_output=True)
    recorded = json.loads((tmp_path / "new/code.json").read_text(encoding="utf-8"))
    assert recorded["search"] == fingerprint_of_code("stages.search")


def test_a_stage_refuses_other_code_than_is_recorded_until_that_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init", "."])
    assert "cd " not in capsys.readouterr().out
    file = tmp_path / "code.json"
    original = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(original | {"version": "0.0.9", "train": "another"}), encoding="utf-8")
    before = files(tmp_path)
    line = refusal(capsys, "train")
    assert line.startswith(
        f"spacewarps train: code.json was written for version '0.0.9', but version '{original['version']}'"
    )
    assert "`spacewarps init --update .`" in line
    assert files(tmp_path) == before
    # What does not concern the code of a stage is not refused.
    assert "models/search" not in line
    assert "data/prepared" in refusal(capsys, "search")
    assert main(["params", "--check"]) == 0

    capsys.readouterr()
    assert main(["init", "--update", "."]) == 0
    assert json.loads(file.read_text(encoding="utf-8")) == original
    assert capsys.readouterr().out.count("\n") == 1
    assert "code.json" not in refusal(capsys, "train")


def test_an_update_says_where_the_pipeline_is_not_that_of_the_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init", "new"])
    with (tmp_path / "new/dvc.yaml").open("a", encoding="utf-8") as file:
        file.write("# mine\n")
    before = (tmp_path / "new/dvc.yaml").read_bytes()
    capsys.readouterr()
    assert main(["init", "--update", "new"]) == 0
    assert "new/dvc.yaml is not the one of this version" in capsys.readouterr().out
    assert (tmp_path / "new/dvc.yaml").read_bytes() == before


def test_there_is_nothing_to_update_where_no_project_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "code.json: no such file" in refusal(capsys, "init", "--update", ".")
    assert not files(tmp_path)


@pytest.mark.parametrize("content", ["[", "[1]", "[" * 100_000, "\xff"])
def test_damaged_records_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    main(["init", "."])
    (tmp_path / "code.json").write_bytes(content.encode("latin-1"))
    assert "code.json: damaged" in refusal(capsys, "train")
