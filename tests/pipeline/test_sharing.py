"""Results that one clone has, in another: data through DVC's remote, candidates through it or through a folder."""

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import without_keys
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

STAGES = 5


@pytest.fixture(scope="module")
def shared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a folder as remote, which holds its results."""
    folder = tmp_path_factory.mktemp("shared")
    project = finished.copy(folder / "project")
    project.dvc("remote", "add", "--default", "lab", str(folder / "remote"))
    project.commit("Name the remote")
    project.dvc("push")
    return project


def clone_of(project: Project, folder: Path) -> Project:
    project.git("clone", "--quiet", str(project.folder), str(folder))
    return project.at(folder)


def nothing_is_left_to_do(project: Project) -> bool:
    return project.dvc("repro").stdout.count("didn't change, skipping") == STAGES


def test_a_clone_that_pulls_has_every_result_and_nothing_left_to_do(shared: Project, tmp_path: Path) -> None:
    clone = clone_of(shared, tmp_path / "clone")
    assert clone.spacewarps("result").returncode == 2
    clone.dvc("pull")
    assert nothing_is_left_to_do(clone)
    assert clone.git("status", "--porcelain") == ""
    for command in (("metrics", "show", "--json"), ("params", "diff", "--all", "--json"), ("plots", "diff", "--json")):
        assert json.loads(clone.dvc(*command).stdout) == json.loads(shared.dvc(*command).stdout), command
    results = [project.spacewarps("result") for project in (clone, shared)]
    assert [done.returncode for done in results] == [0, 0]
    # The last line leads to MLflow, which the clone has no runs in.
    said = [done.stdout.splitlines()[:-1] for done in results]
    assert said[0] == said[1] != []
    # When and where it was made is no part of a result.
    assert not (clone.folder / "reports/run.json").exists()
    (shared.folder / "reports/run.json").unlink()
    for name in ("data/prepared", "models/search", "models/final", "reports"):
        assert files_of(clone.folder / name) == files_of(shared.folder / name), name


def test_what_a_clone_has_pulled_a_stage_may_replace(shared: Project, tmp_path: Path) -> None:
    clone = clone_of(shared, tmp_path / "clone")
    clone.dvc("pull")
    clone.dvc("repro", "--force")
    assert (clone.folder / "dvc.lock").read_bytes() == (shared.folder / "dvc.lock").read_bytes()
    assert clone.git("status", "--porcelain") == ""


def test_an_experiment_is_pushed_and_pulled_with_its_results(shared: Project, tmp_path: Path) -> None:
    shared.dvc("exp", "run", "--temp", "--name", "shorter", "--set-param", "train.epochs=1")
    shared.git("init", "--quiet", "--bare", str(tmp_path / "hub"))
    shared.git("push", "--quiet", str(tmp_path / "hub"), "HEAD")
    shared.dvc("exp", "push", str(tmp_path / "hub"), "shorter")
    shared.git("clone", "--quiet", str(tmp_path / "hub"), str(tmp_path / "clone"))
    clone = shared.at(tmp_path / "clone")
    clone.dvc("exp", "pull", "origin", "shorter")
    clone.dvc("exp", "apply", "shorter")
    assert nothing_is_left_to_do(clone)
    assert clone.params()["train"]["epochs"] == 1
    assert clone.spacewarps("result").returncode == 0


@pytest.mark.parametrize("way", ["copied", "a link to one folder"])
def test_a_search_finds_the_candidates_of_a_colleague(shared: Project, tmp_path: Path, way: str) -> None:
    mine, theirs = shared.copy(tmp_path / "mine"), clone_of(shared, tmp_path / "theirs")
    theirs.dvc("pull")
    if way == "copied":
        assert mine.spacewarps("journal", "push", str(tmp_path / "pool")).returncode == 0
        pulled = theirs.spacewarps("journal", "pull", str(tmp_path / "pool"))
        assert (pulled.returncode, pulled.stdout.split(" copied")[0]) == (0, "4 entries")
        assert theirs.entries() == mine.entries()
    else:
        (mine.folder / ".spacewarps/journal").rename(tmp_path / "pool")
        (theirs.folder / ".spacewarps").mkdir(exist_ok=True)
        for project in (mine, theirs):
            (project.folder / ".spacewarps/journal").symlink_to(tmp_path / "pool")
    said = theirs.dvc("repro", "--force", "--single-item", "search").stdout
    assert "0 candidates evaluated, 4 found in the journal" in said
    assert theirs.git("status", "--porcelain") == ""


def test_a_clone_pulls_from_s3(finished: Project, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(tmp_path, monkeypatch)
    project = finished.copy(tmp_path / "project")
    project.dvc("remote", "add", "--default", "lab", "s3://survey/demo")
    project.dvc("remote", "modify", "lab", "endpointurl", bucket)
    project.commit("Name the remote")
    keys = {"access_key_id": "me", "secret_access_key": "a word of mine"}
    for name, value in keys.items():
        project.dvc("remote", "modify", "--local", "lab", name, value)
    assert project.git("status", "--porcelain") == ""
    assert "pushed" in project.dvc("push").stdout
    clone = clone_of(project, tmp_path / "clone")
    # Nobody's keys are under git.
    assert not (clone.folder / ".dvc/config.local").exists()
    for name, value in keys.items():
        monkeypatch.setenv({"access_key_id": "AWS_ACCESS_KEY_ID"}.get(name, "AWS_SECRET_ACCESS_KEY"), value)
    clone.dvc("pull")
    assert nothing_is_left_to_do(clone)
    assert files_of(clone.folder / "models") == files_of(project.folder / "models")


def test_a_search_finds_the_candidates_of_a_colleague_on_s3(
    shared: Project, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(tmp_path, monkeypatch)
    mine, theirs = shared.copy(tmp_path / "mine"), clone_of(shared, tmp_path / "theirs")
    theirs.dvc("pull")
    for project in (mine, theirs):
        project.dvc("remote", "add", "--local", "cloud", "s3://survey/demo")
        for name, value in {"endpointurl": bucket, "access_key_id": "me", "secret_access_key": "a word"}.items():
            project.dvc("remote", "modify", "--local", "cloud", name, value)
    mine.dvc("push", "--remote", "cloud")
    for known in (0, 4):
        pushed = mine.spacewarps("journal", "push", "remote://cloud")
        assert (pushed.returncode, pushed.stderr) == (0, "")
        assert pushed.stdout == f"{4 - known} entries copied to remote://cloud, {known} known there already\n"
    # DVC's own data lies beside them, and neither touches the other.
    mine.dvc("gc", "--workspace", "--cloud", "--remote", "cloud", "--force")
    pulled = theirs.spacewarps("journal", "pull", "remote://cloud")
    assert (pulled.returncode, pulled.stderr, pulled.stdout.split(" copied")[0]) == (0, "", "4 entries")
    assert theirs.entries() == mine.entries()
    said = theirs.dvc("repro", "--force", "--single-item", "search").stdout
    assert "0 candidates evaluated, 4 found in the journal" in said
    assert theirs.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("remote", "keys", "why"),
    [
        ("s3://survey/demo", {}, "Unable to locate credentials"),
        ("s3://nowhere/demo", {"access_key_id": "me", "secret_access_key": "a word of mine"}, "does not exist"),
    ],
)
def test_an_s3_that_gives_no_data_is_told_in_one_line(
    finished: Project,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    remote: str,
    keys: dict[str, str],
    why: str,
) -> None:
    without_keys(tmp_path, monkeypatch)
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.folder / ".dvc/cache")
    project.dvc("remote", "add", "--local", "--default", "lab", remote)
    project.dvc("remote", "modify", "--local", "lab", "endpointurl", bucket)
    for name, value in keys.items():
        project.dvc("remote", "modify", "--local", "lab", name, value)
    done = project.spacewarps("compare", "HEAD", "workspace")
    assert (done.returncode, done.stderr) == (0, "")
    reason = "DVC cannot have it (Unable" if not keys else "is neither in the cache of DVC nor in its remote"
    assert f"the answers of HEAD cannot be had (reports/report/predictions.csv{':' * (not keys)} {reason}" in " ".join(
        done.stdout.split()
    )
    (run_id,) = [run.info.run_id for run in project.runs() if str(run.info.run_name).startswith("pipeline ")]
    done = project.spacewarps("checkout", run_id, "../tree")
    assert (done.returncode, done.stderr) == (0, "")
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("not all data could be pulled: ")]
    assert why in told
    assert "neither in the cache of this clone nor in a remote: data/demo, data/prepared" in done.stdout


def test_a_folder_without_a_journal_is_refused_in_one_line(shared: Project, tmp_path: Path) -> None:
    project = shared.copy(tmp_path / "project")
    (tmp_path / "file").write_text("in the way")
    for arguments, told in [
        (("pull", str(tmp_path / "nowhere")), "no journal is there"),
        (("push", str(tmp_path / "file")), "no folder can be made there"),
        (("push", str(tmp_path / "file/below")), "no folder can be made there"),
        (("pull", ".spacewarps/journal"), "this project's own journal"),
    ]:
        done = project.spacewarps("journal", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), arguments
        assert told in done.stderr
    assert project.entries() == shared.entries()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
