"""What is edited while a stage runs: DVC would record it, so no result of other params, code or inputs is written."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol

import pytest

from spacewarps.tracking.tracker import Tracker
from tests.archives.archive import running, stamp
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import ROOT, Project
from tests.pipeline.test_fetch import set_up
from tiny_project import processes_of_session

# What each stage calls before it writes.
CALLED = {
    "simulate": "simulate_survey",
    "prepare": "prepare_survey",
    "search": "run_search",
    "train": "run_training",
    "evaluate": "evaluate_predictions",
    "crossvalidate": "summarise",
    "predict": "answer",
    "fetch": "fetch_stamps",
}
PIPELINES = ("dvc.yaml", "crossvalidation/dvc.yaml", "prediction/dvc.yaml", "fetching/dvc.yaml")


@pytest.fixture
def project(on_prepared: Project) -> Project:
    """A project with a small prepared survey, its pipelines and its code."""
    shutil.copytree(ROOT / "src", on_prepared.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in PIPELINES:
        (on_prepared.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, on_prepared.folder / name)
    return on_prepared


class Run(Protocol):
    def __call__(self, stage: str, edit: Callable[[], object], *, late: bool = False) -> tuple[int, list[str]]: ...


@pytest.fixture
def run_while(project: Project, spacewarps_here: SpacewarpsHere, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a stage and do something meanwhile; return what it complains of.

    That is when its work is done but nothing is written yet, or ``late``, when all is written and MLflow is waited for.
    """

    def run(stage: str, edit: Callable[[], object], *, late: bool = False) -> tuple[int, list[str]]:
        module = import_module(f"spacewarps.stages.{stage}")
        work, close = getattr(module, CALLED[stage]), Tracker.close

        def work_and_edit(*arguments: object, **options: object) -> object:
            result = work(*arguments, **options)
            edit()
            return result

        def edit_and_close(tracker: Tracker, status: str) -> None:
            edit()
            close(tracker, status)

        with monkeypatch.context() as inside:
            if late:
                inside.setattr(Tracker, "close", edit_and_close)
            else:
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


EDITS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("simulate", "simulate", {"n_samples": 91}),
    ("prepare", "data", {"fraction": 0.5}),
    ("search", "optimiser", {"learning_rate": 0.5}),
    ("train", "train", {"epochs": 2}),
    ("evaluate", "evaluate", {"bootstrap_resamples": 201}),
    ("crossvalidate", "crossvalidate", {"repeats": 2}),
    ("predict", "predict", {"table": "parquet"}),
    ("fetch", "fetch", {"max_failed_fraction": 0.1}),
)


@pytest.mark.long
def test_no_stage_writes_a_result_of_params_that_are_others_by_now(
    project: Project, run_while: Run, spacewarps_here: SpacewarpsHere
) -> None:
    shutil.rmtree(project.folder / "data")
    with running() as archive:
        archive.behave = lambda request: request.answer(stamp())
        set_up(project, archive)
        params = project.params()
        for stage, section, values in EDITS:
            before = written(project)
            status, errors = run_while(stage, lambda s=section, v=values: set_param(project, s, **v))  # type: ignore[misc]
            ((name, value),) = values.items()
            was = params[section][name]
            assert status == 2, stage
            assert errors[-1].startswith(
                f"spacewarps {stage}: {section}.{name} was {was!r} when this began and is {value!r} "
            )
            assert written(project) == before
            of_stage = [run for run in project.runs() if run.data.tags.get("spacewarps.stage") == stage]
            assert of_stage[0].info.status == "FAILED"
            project.write_params(params)
            assert spacewarps_here(project, stage)[0] == 0
            assert written(project) != before


@pytest.mark.parametrize(("stage", "section", "values"), [EDITS[0], EDITS[2]])
def test_what_is_edited_after_the_outputs_were_written_ends_the_stage_with_status_2(
    project: Project, run_while: Run, stage: str, section: str, values: dict[str, object]
) -> None:
    before = written(project)
    status, errors = run_while(stage, lambda: set_param(project, section, **values), late=True)
    assert (status, len(errors)) == (2, 1)
    assert errors[0].startswith(f"spacewarps {stage}: {section}.{next(iter(values))} was ")
    assert "it is written, but must not be recorded; run again as it is, or put back what was there before" in errors[0]
    assert written(project) != before


@pytest.mark.long
def test_dvc_records_nothing_where_params_change_as_mlflow_is_waited_for(make_project: Callable[[], Project]) -> None:
    project = make_project()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Whoever connects is never answered, and a stage waits a second for that before it ends.
        project.variables["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with project.start("dvc", "repro", "simulate") as repro:
            deadline = time.monotonic() + 120
            while not (project.folder / "data/demo").exists():
                assert repro.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            # On a busy machine the edit takes longer than the wait.
            for process in processes_of_session(repro.pid):
                process.suspend()
            set_param(project, "simulate", n_samples=91)
            for process in processes_of_session(repro.pid):
                process.resume()
            _, errors = repro.communicate(timeout=120)
    assert repro.returncode != 0
    assert "simulate.n_samples was 90 when this began and is 91 now" in errors
    assert not (project.folder / "dvc.lock").exists()
    assert "simulate" in project.dvc("status").stdout


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
