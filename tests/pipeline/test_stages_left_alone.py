"""The run tree of MLflow where DVC runs only some of the stages."""

from pathlib import Path

import pytest

from tests.pipeline.project import Project

pytestmark = pytest.mark.long

LEFT_ALONE = ["simulate", "prepare", "search", "train"]


def below(project: Project, pipeline_id: str) -> dict[str, str | None]:
    """Return the runs of stages below a run of the pipeline, and which run computed the results of each."""
    stages = [run for run in project.runs() if run.data.tags.get("mlflow.parentRunId") == pipeline_id]
    return {run.data.tags["spacewarps.stage"]: run.data.tags.get("spacewarps.computed_by") for run in stages}


def latest(project: Project) -> str:
    return str(next(run.info.run_id for run in project.runs() if "spacewarps.pipeline" in run.data.tags))


def test_every_run_shows_the_stages_that_dvc_left_alone(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    # The oldest; other tests may have run stages of the finished project again.
    first = {run.data.tags.get("spacewarps.stage"): run.info.run_id for run in project.runs()}
    whole = [run.info.run_id for run in project.runs() if "spacewarps.pipeline" in run.data.tags][-1]
    assert below(project, whole) == dict.fromkeys([*LEFT_ALONE, "evaluate"])
    expected = {stage: first[stage] for stage in LEFT_ALONE} | {"evaluate": None}
    for arguments in (
        ["exp", "run", "--name", "here", "--set-param", "evaluate.bootstrap_resamples=150"],
        ["exp", "run", "--temp", "--name", "aside", "--set-param", "evaluate.bootstrap_resamples=160"],
        # Back to the params of before.
        ["repro"],
    ):
        if arguments == ["repro"]:
            project.git("checkout", "--quiet", "params.yaml")
        assert project.dvc(*arguments).returncode == 0
        assert below(project, latest(project)) == expected, arguments
    assert (project.folder / "dvc.lock").read_bytes() == (finished.folder / "dvc.lock").read_bytes()
    assert not [run for run in project.runs() if run.info.status != "FINISHED"]


def test_the_description_names_the_stages_that_ran_with_other_params(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    params = project.params()
    rate = params["optimiser"]["learning_rate"]
    params["optimiser"]["learning_rate"] = 0.5
    project.write_params(params)
    project.dvc("repro", "--single-item", "evaluate")
    run = next(run for run in project.runs() if run.info.run_id == latest(project))
    told = [
        line for line in run.data.tags["mlflow.note.content"].splitlines() if "other params than stand here" in line
    ]
    assert told == [
        f"- **The stage {stage} ran with other params than stand here: `optimiser.learning_rate` was {rate}, not 0.5**"
        for stage in ("search", "train")
    ]
    assert run.data.params["optimiser.learning_rate"] == "0.5"
