import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from spacewarps.tracking.failures import TrackingError
from spacewarps.tracking.pipeline_run import StageRun, stage_run
from spacewarps.tracking.recorded_run import find_recorded_run
from spacewarps.tracking.revision import CHANGED_TAG, COMMIT_TAG
from spacewarps.tracking.tracker import Tracker
from tests.tracking.runs import client_of, run_of

PARAMS = {"seed": 1, "paths.reports": "reports"}
PIPELINE = """
stages:
  prepare:
    cmd: spacewarps prepare
    deps: [src/code, survey, /elsewhere/survey]
    outs: [data]
  train:
    cmd: spacewarps train
    deps: [data, "${paths.reports}/search.json", src/code]
    outs:
      - models: {persist: true}
    metrics:
      - ${paths.reports}/training.json: {cache: false}
"""


def git(*arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def shown(stage: StageRun, run: str) -> str:
    """Return the id that MLflow shows of a run."""
    return str(run_of(stage.tracker, run).info.run_id)


@pytest.fixture
def project(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project under git, with a pipeline, code and outputs; the folder that a stage runs in."""
    monkeypatch.chdir(tracked)
    for name, text in {
        "dvc.yaml": PIPELINE,
        "params.yaml": "seed: 1  # of all draws\n",
        "src/code/module.py": "x = 1\n",
        "reports/search.json": "{}",
        "reports/training.json": "{}",
        "models/model.json": "{}",
        ".gitignore": "/mlflow.db*\n/mlartifacts\n/models\n",
    }.items():
        (tracked / name).parent.mkdir(parents=True, exist_ok=True)
        (tracked / name).write_text(text)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Start")
    return tracked


def test_a_run_is_read_back_with_all_that_repeats_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "shorter")
    (project / "params.yaml").write_text("seed: 1  # as ever\n")
    (project / "reports/training.json").write_text("another result")
    with stage_run("train", PARAMS) as stage:
        candidate = stage.tracker.start_run("a candidate", stage.run_id, {})
    for run in (stage.pipeline_id, stage.run_id, candidate):
        found = find_recorded_run(shown(stage, run), project)
        top = shown(stage, stage.pipeline_id)
        assert (found.run_id, found.name, found.experiment) == (top, "shorter", "shorter")
        assert found.commit == git("rev-parse", "HEAD")
        assert found.params_file == b"seed: 1  # as ever\n"
        assert found.changed == []
        assert found.pipeline == Path("dvc.yaml")
        of_model = json.dumps([{"md5": hashlib.md5(b"{}").hexdigest(), "relpath": "model.json"}])
        assert found.outputs == {
            "models": f"{hashlib.md5(of_model.encode()).hexdigest()}.dir",
            "reports/training.json": hashlib.md5(b"another result").hexdigest(),
        }


def test_a_stage_that_failed_has_no_outputs(project: Path) -> None:
    with pytest.raises(ValueError, match="no"), stage_run("train", PARAMS) as stage:
        raise ValueError("no")
    assert find_recorded_run(shown(stage, stage.run_id), project).outputs == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "src/code/module.py").write_text("x = 2\n"), ["src/code/module.py"]),
        (lambda root: (root / "src/code/new.py").write_text(""), ["src/code/new.py"]),
        (lambda root: (root / "src/code/module.py").unlink(), ["src/code/module.py"]),
        (lambda root: (root / "src/code/module.py").rename(root / "elsewhere.py"), ["src/code/module.py"]),
        (lambda root: (root / "dvc.yaml").write_text(PIPELINE + "# more\n"), ["dvc.yaml"]),
        (lambda root: (root / "survey.dvc").write_text("outs: []\n"), ["survey.dvc"]),
        (lambda root: (root / "README.md").write_text("words"), []),
        (lambda root: (root / "reports/search.json").write_text("an output of before"), []),
    ],
)
def test_what_decides_and_is_not_as_in_the_commit_is_named(
    project: Path, change: Callable[[Path], object], expected: list[str]
) -> None:
    pipeline = PIPELINE.replace("outs: [data]", 'outs: [data, "${paths.reports}/search.json"]')
    (project / "dvc.yaml").write_text(pipeline)
    git("commit", "--quiet", "--all", "--message", "Another output")
    change(project)
    if expected == ["dvc.yaml"]:
        assert git("status", "--porcelain")
    with stage_run("train", PARAMS) as stage:
        pass
    assert find_recorded_run(shown(stage, stage.run_id), project).changed == expected


def test_a_run_of_an_earlier_version_whose_stages_are_of_several_commits_is_refused(project: Path) -> None:
    with stage_run("train", PARAMS) as stage:
        pass
    client_of(stage.tracker).set_tag(shown(stage, stage.run_id), COMMIT_TAG, "0" * 40)
    with pytest.raises(TrackingError, match="there was a commit between its stages"):
        find_recorded_run(shown(stage, stage.pipeline_id), project)


def one_line(caught: pytest.ExceptionInfo[TrackingError], told: str) -> bool:
    return "\n" not in str(caught.value) and told in str(caught.value)


def test_what_cannot_be_repeated_is_refused_with_the_reason(project: Path, tmp_path: Path) -> None:
    tracker = Tracker(project)
    foreign = tracker.start_run("somebody else's", None, {})
    of_foreign = str(run_of(tracker, foreign).info.run_id)
    tracker.close("FINISHED")
    with stage_run("train", PARAMS) as stage:
        pass
    # As in runs of earlier versions, which went on with other params.
    client_of(stage.tracker).log_param(shown(stage, stage.run_id), "train.epochs", 20)
    for run_id, told in [
        (of_foreign, "no run of a pipeline of Space Warps"),
        ("0" * 32, "name a run as MLflow shows it"),
        ("../..", "name a run as MLflow shows it"),
        (shown(stage, stage.run_id), "params were changed between its stages"),
    ]:
        with pytest.raises(TrackingError) as caught:
            find_recorded_run(run_id, project)
        assert one_line(caught, told), caught.value
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrackingError) as caught:
        find_recorded_run(shown(stage, stage.run_id), tmp_path / "empty")
    assert one_line(caught, "no runs are there")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_run_that_noted_less_is_refused(project: Path) -> None:
    with stage_run("train", PARAMS) as stage:
        pass
    pipeline_id = shown(stage, stage.pipeline_id)
    artifact = project / "mlartifacts" / pipeline_id / "artifacts/params.yaml"
    artifact.rename(project / "aside.yaml")
    with pytest.raises(TrackingError) as caught:
        find_recorded_run(pipeline_id, project)
    assert one_line(caught, "its params.yaml is not among its artifacts")
    client_of(stage.tracker).delete_tag(pipeline_id, CHANGED_TAG)
    with pytest.raises(TrackingError) as caught:
        find_recorded_run(pipeline_id, project)
    assert one_line(caught, "earlier versions")


def test_a_run_outside_of_git_is_refused(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracked)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tracked.parent))
    with stage_run("train", PARAMS) as stage:
        pass
    with pytest.raises(TrackingError) as caught:
        find_recorded_run(shown(stage, stage.run_id), tracked)
    assert one_line(caught, "outside of git")
