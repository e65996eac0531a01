"""The pipeline as its users drive it, through DVC; each of these takes a while."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.long

SAMPLE = os.environ.get("SPACEWARPS_SAMPLE")


@pytest.fixture(scope="module")
def project(make_project):
    project = make_project()
    project.dvc("repro")
    project.commit("Run")
    return project


def runs_of(project):
    client = MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("space-warps")
    return client.search_runs([experiment.experiment_id], max_results=1000)


def top_run(project, name):
    (run,) = [
        run for run in runs_of(project) if run.info.run_name == name and "mlflow.parentRunId" not in run.data.tags
    ]
    return run


def test_dag_has_all_stages(project):
    graph = project.dvc("dag", "--dot").stdout
    assert all(f'"{stage}"' in graph for stage in ("simulate", "prepare", "search", "train", "evaluate"))


def test_another_clone_gives_the_same_bytes(project, tmp_path):
    clone = tmp_path / "elsewhere"
    project.git("clone", "--quiet", str(project.folder), str(clone))
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=clone,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Running stage") == 5
    assert (clone / "dvc.lock").read_bytes() == (project.folder / "dvc.lock").read_bytes()
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert changed.stdout == ""


def test_running_all_stages_again_by_force_changes_nothing(project):
    before = (project.folder / "dvc.lock").read_bytes()
    project.dvc("repro", "--force")
    assert (project.folder / "dvc.lock").read_bytes() == before


def test_an_experiment_reruns_only_what_its_params_touch_and_can_be_compared(project):
    done = project.dvc("exp", "run", "--name", "deeper", "--set-param", "search.max_layers=3")
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran[0] == "search"
    assert not {"simulate", "prepare"} & set(ran)
    summary = json.loads((project.folder / "reports/search.json").read_text())
    assert {c["layer"] for c in summary["candidates"]} <= {1, 2, 3}

    shown = project.dvc("exp", "show", "--csv").stdout
    assert "deeper" in shown
    header = shown.splitlines()[0].split(",")
    assert "search.max_layers" in header
    assert any(name.endswith("test.accuracy") for name in header)
    (change,) = json.loads(project.dvc("exp", "diff", "--json", "HEAD", "deeper").stdout)["params"][
        "params.yaml"
    ].items()
    assert change[0] == "search.max_layers"
    project.dvc("metrics", "diff")
    project.dvc("plots", "diff", "--out", "dvc_plots", "HEAD", "workspace")
    assert (project.folder / "dvc_plots/index.html").exists()
    assert top_run(project, "deeper").data.tags["dvc.experiment"] == "deeper"
    project.git("checkout", "--quiet", "--force", "HEAD")
    project.git("clean", "--quiet", "--force", "-d")
    project.dvc("checkout", "--force")


def test_an_experiment_in_a_temporary_copy_is_tracked_in_the_projects_own_database(project):
    project.dvc("exp", "run", "--temp", "--name", "aside", "--set-param", "train.epochs=1")
    run = top_run(project, "aside")
    assert run.data.params["train.epochs"] == "1"
    assert "test.accuracy" in run.data.metrics


def test_a_param_that_does_not_exist_is_refused(project):
    done = project.dvc("exp", "run", "--set-param", "search.max_layer=3", check=False)
    assert done.returncode != 0
    assert "max_layer" in done.stderr
    assert project.git("status", "--porcelain") == ""


def test_a_bad_survey_stops_the_pipeline_and_checkout_brings_the_outputs_back(project, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "catalogue.csv").write_text("id,class\n1,STAR\n")
    before = (project.folder / "data/prepared/samples.csv").read_bytes()
    done = project.dvc(
        "exp",
        "run",
        "-S",
        f"data.catalog={tmp_path}/catalogue.csv",
        "-S",
        f"data.images={tmp_path}/images",
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "catalogue.csv" in done.stderr
    project.git("checkout", "--quiet", "--force", "HEAD")
    project.dvc("checkout", "--force")
    assert (project.folder / "data/prepared/samples.csv").read_bytes() == before


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_killed_stage_leaves_nothing_half_written_and_the_next_run_ends_the_same(project, stage):
    before = (project.folder / "dvc.lock").read_bytes()
    output = project.folder / {"search": "models/search", "train": "models/final"}[stage]
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    mark = {"search": "  layer 1", "train": "  epoch 1"}[stage]
    for line in process.stdout:
        if line.startswith(mark):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    assert not output.exists() or sorted(file.name for file in output.iterdir()) == ["model.json", "model.safetensors"]
    project.dvc("repro")
    assert (project.folder / "dvc.lock").read_bytes() == before


@pytest.mark.skipif(SAMPLE is None, reason="SPACEWARPS_SAMPLE names no real sample")
def test_the_real_sample_needs_only_the_two_data_params(make_project):
    project = make_project()
    assert SAMPLE is not None
    survey = Path(SAMPLE).resolve()
    project.dvc("exp", "run", "-S", f"data.catalog={survey}", "-S", f"data.images={survey / 'images'}")
    audit = json.loads((project.folder / "data/prepared/audit.json").read_text())
    assert (audit["rows_in"], audit["rows_kept"]) == (1177, 1176)
    assert audit["images"]["without_row"]["names"] == ["nan.jpg"]
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    assert metrics["test"]["accuracy_low"] > metrics["baseline"]["most_frequent_class"]["accuracy"]
    assert str(survey) not in (project.folder / "data/prepared/audit.json").read_text()
