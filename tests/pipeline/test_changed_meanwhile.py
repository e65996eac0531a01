"""What is edited while a stage runs: DVC would record it, so no result of other params, code or inputs is written."""

import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import ROOT, Project

# What each stage calls before it writes.
CALLED = {
    "simulate": "simulate_survey",
    "prepare": "prepare_survey",
    "search": "run_search",
    "train": "run_training",
    "evaluate": "evaluate_predictions",
    "crossvalidate": "summarise",
}


@pytest.fixture
def project(on_prepared: Project) -> Project:
    """A project with a small prepared survey, its pipelines and its code."""
    shutil.copytree(ROOT / "src", on_prepared.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (on_prepared.folder / "crossvalidation").mkdir()
    for name in ("dvc.yaml", "crossvalidation/dvc.yaml"):
        shutil.copy(ROOT / name, on_prepared.folder / name)
    return on_prepared


Run = Callable[[str, Callable[[], object]], tuple[int, list[str]]]


@pytest.fixture
def run_while(project: Project, spacewarps_here: SpacewarpsHere, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a stage, and do something when its work is done but nothing is written yet; return what it complains of."""

    def run(stage: str, edit: Callable[[], object]) -> tuple[int, list[str]]:
        module = import_module(f"spacewarps.stages.{stage}")
        work = getattr(module, CALLED[stage])

        def work_and_edit(*arguments: object, **options: object) -> object:
            result = work(*arguments, **options)
            edit()
            return result

        with monkeypatch.context() as inside:
            inside.setattr(module, CALLED[stage], work_and_edit)
            status, _, errors = spacewarps_here(project, stage)
        # MLflow says where it makes a database.
        return status, [line for line in errors.splitlines() if " INFO mlflow." not in line]

    return run


def set_param(project: Project, section: str, **values: object) -> None:
    params = project.params()
    params[section] |= values
    project.write_params(params)


def written(project: Project) -> dict[Path, bytes]:
    """Return what stands where stages write, but for what they read."""
    places = [project.folder / name for name in ("data", "models", "reports")]
    return {file: file.read_bytes() for place in places for file in place.rglob("*") if file.is_file()}


@pytest.mark.long
def test_no_stage_writes_a_result_of_params_that_are_others_by_now(
    project: Project, run_while: Run, spacewarps_here: SpacewarpsHere
) -> None:
    shutil.rmtree(project.folder / "data")
    params = project.params()
    for stage, section, values in (
        ("simulate", "simulate", {"n_samples": 91}),
        ("prepare", "data", {"fraction": 0.5}),
        ("search", "optimiser", {"learning_rate": 0.5}),
        ("train", "train", {"epochs": 2}),
        ("evaluate", "evaluate", {"bootstrap_resamples": 201}),
        ("crossvalidate", "crossvalidate", {"repeats": 2}),
    ):
        before = written(project)
        status, errors = run_while(stage, lambda s=section, v=values: set_param(project, s, **v))  # type: ignore[misc]
        ((name, value),) = values.items()
        was = params[section][name]
        assert status == 2, stage
        assert errors[-1].startswith(f"spacewarps {stage}: {section}.{name} was {was} when this began and is {value} ")
        assert written(project) == before
        of_stage = [run for run in project.runs() if run.data.tags.get("spacewarps.stage") == stage]
        assert of_stage[0].info.status == "FAILED"
        project.write_params(params)
        assert spacewarps_here(project, stage)[0] == 0
        assert written(project) != before


def test_set_back_the_search_goes_on_from_its_journal(
    project: Project, run_while: Run, spacewarps_here: SpacewarpsHere
) -> None:
    params, before = project.params(), written(project)
    rate = params["optimiser"]["learning_rate"]
    status, errors = run_while("search", lambda: set_param(project, "optimiser", learning_rate=0.5))
    assert (status, errors) == (
        2,
        [
            f"spacewarps search: optimiser.learning_rate was {rate} when this began and is 0.5 now, so DVC would "
            "record what did not make the result: nothing is written; put back what was there, or run again as it is, "
            "and the same command goes on from the finished candidates that are in the journal"
        ],
    )
    assert written(project) == before
    assert not (project.folder / "models").exists()
    project.write_params(params)
    status, said, _ = spacewarps_here(project, "search")
    assert status == 0
    assert "\n0 candidates evaluated, 1 found in the journal" in said


@pytest.mark.parametrize(
    ("stage", "name", "text", "told"),
    [
        ("search", "src/spacewarps/training/fit.py", "", "src/spacewarps/training/fit.py has been changed since"),
        ("search", "params.yaml", "seed: [", "params.yaml was valid when this began and is not now (not valid YAML: "),
        ("crossvalidate", "data/prepared/samples.csv", "id", "data/prepared/samples.csv has been changed since"),
    ],
)
def test_code_inputs_and_params_that_cannot_be_read_are_named(
    project: Project, run_while: Run, stage: str, name: str, text: str, told: str
) -> None:
    status, errors = run_while(stage, lambda: (project.folder / name).write_text(text))
    assert (status, len(errors)) == (2, 1)
    assert errors[0].startswith(f"spacewarps {stage}: {told}")
    assert not (project.folder / "reports").exists()


def test_what_dvc_does_not_record_of_a_stage_does_not_stop_it(project: Project, run_while: Run) -> None:
    def edit() -> None:
        set_param(project, "train", epochs=7)
        params = project.folder / "params.yaml"
        params.write_text(f"# A comment.\n{params.read_text()}")
        (project.folder / "src/spacewarps/commands/result.py").write_text("")
        for module in (project.folder / "src").rglob("*.py"):
            os.utime(module, (1, 1))

    status, errors = run_while("search", edit)
    assert (status, errors) == (0, [])
    assert (project.folder / "models/search/model.json").exists()


def test_without_a_pipeline_any_param_stops_a_stage_and_nothing_else(project: Project, run_while: Run) -> None:
    shutil.rmtree(project.folder / "crossvalidation")
    (project.folder / "dvc.yaml").unlink()
    status, errors = run_while("search", lambda: set_param(project, "train", epochs=7))
    assert status == 2
    assert errors[0].startswith("spacewarps search: train.epochs was 1 when this began and is 7 now, so")
    status, errors = run_while("search", lambda: shutil.rmtree(project.folder / "src"))
    assert (status, errors) == (0, [])
