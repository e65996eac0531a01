import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spacewarps import Space_Galaxi, load_model
from spacewarps.model.storage import load_progressive_model
from spacewarps.training.compute import set_up_compute
from spacewarps.training.prediction import score
from spacewarps.training.settings import ComputeSettings
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project
from tiny_project import processes_of_session


@pytest.fixture(scope="module")
def runs(finished: Project) -> list[Run]:
    found = finished.runs()
    assert all(run.info.status == "FINISHED" for run in found)
    return found


def children(runs: list[Run], parent: Run) -> list[Run]:
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return sorted(below, key=lambda run: run.info.start_time)


def the_only(runs: list[Run], **tags: str) -> Run:
    (found,) = [run for run in runs if all(run.data.tags.get(name) == value for name, value in tags.items())]
    return found


def test_all_stages_have_run_and_a_second_repro_does_nothing(finished: Project) -> None:
    before = (finished.folder / "dvc.lock").read_bytes()
    again = finished.dvc("repro")
    assert "Running stage" not in again.stdout
    assert "up to date" in finished.dvc("status", "dvc.yaml").stdout
    assert (finished.folder / "dvc.lock").read_bytes() == before
    assert finished.git("status", "--porcelain") == ""


def test_what_dvc_hashes_names_no_machine_and_no_time(finished: Project) -> None:
    outputs = [
        "data/prepared/audit.json",
        "data/prepared/samples.csv",
        "reports/search.json",
        "reports/training.json",
        "reports/metrics.json",
        "reports/result.json",
        "models/final/model.json",
        "reports/report/report.md",
        "reports/report.html",
        "reports/card.md",
    ]
    for output in outputs:
        text = (finished.folder / output).read_text()
        assert str(finished.made_in) not in text
        assert "seconds" not in text


def test_search_summary_has_what_is_promised(finished: Project) -> None:
    summary = json.loads((finished.folder / "reports/search.json").read_text())
    assert summary["num_layers"] == len(summary["architecture"])
    assert summary["final_val_accuracy"] == summary["architecture"][-1]["val_accuracy"]
    assert {"layer", "k", "channels", "val_accuracy"} <= summary["architecture"][0].keys()
    model = load_progressive_model(finished.folder / "models/search")
    assert model.trainable_params == summary["total_trainable_params"]
    assert model.ks == [layer["k"] for layer in summary["architecture"]]
    assert sum(candidate["chosen"] for candidate in summary["candidates"]) == summary["num_layers"]


def test_models_on_disk_score_what_the_reports_say(finished: Project) -> None:
    compute = set_up_compute(ComputeSettings("cpu", finished.params()["compute"]["precision"], 1))
    validation = Space_Galaxi(finished.folder / "data/prepared", split="validation")
    for folder, report, name in (
        ("models/search", "reports/search.json", "final_val_accuracy"),
        ("models/final", "reports/training.json", "val_accuracy"),
    ):
        said = json.loads((finished.folder / report).read_text())[name]
        assert score(load_model(finished.folder / folder), validation, compute).accuracy == said


def test_predictions_agree_with_the_reported_test_accuracy(finished: Project) -> None:
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    predictions = pd.read_csv(finished.folder / "reports/report/predictions.csv", dtype={"id": str, "source": str})
    assert (predictions["label"] == predictions["predicted"]).mean() == metrics["test"]["accuracy"]
    assert len(predictions) == metrics["test"]["samples"]
    assert metrics["test"]["accuracy_low"] <= metrics["test"]["accuracy"] <= metrics["test"]["accuracy_high"]
    samples = pd.read_csv(finished.folder / "data/prepared/samples.csv", dtype=str)
    assert set(predictions["id"]) == set(samples["id"][samples["split"] == "test"])


def test_mlflow_shows_one_pipeline_run_with_a_run_for_each_stage(finished: Project, runs: list[Run]) -> None:
    (top,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in children(runs, top)] == ["simulate", "prepare", "search", "train", "evaluate"]
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    assert top.data.metrics["test/accuracy"] == metrics["test"]["accuracy"]
    assert f"**Test accuracy {metrics['test']['accuracy']:.4f}**" in top.data.tags["mlflow.note.content"]
    assert top.data.params["search.max_layers"] == "2"
    start = finished.git("rev-list", "--max-parents=0", "HEAD").strip()
    assert top.data.tags["mlflow.source.git.commit"] == start


def test_mlflow_shows_each_step_and_below_it_each_candidate(finished: Project, runs: list[Run]) -> None:
    summary = json.loads((finished.folder / "reports/search.json").read_text())
    steps = children(runs, the_only(runs, **{"spacewarps.stage": "search"}))
    assert [run.info.run_name for run in steps] == [f"step {i + 1}" for i in range(len(steps))]
    shown = []
    for step in steps:
        chosen = [c for c in summary["candidates"] if c["layer"] == int(step.data.params["step"]) and c["chosen"]]
        assert step.data.tags["spacewarps.chosen"] == (f"conv k={chosen[0]['k']}" if chosen else "none: no gain")
        for run in children(runs, step):
            shown.append((int(run.data.params["step"]), int(run.data.params["k"]), run.data.metrics["score"]))
            assert {"train_loss", "val_loss", "val_accuracy", "seconds", "trainable_params"} <= run.data.metrics.keys()
            joined = [f"conv k={c['k']}" for c in chosen]
            assert run.data.params["joined"] == (
                "yes" if run.info.run_name.removesuffix(", joined") in joined else "no"
            )
            # Nothing that an axis of parallel coordinates has no room for.
            assert all(len(value) < 12 for value in run.data.params.values())
    assert sorted(shown) == sorted((c["layer"], c["k"], c["val_accuracy"]) for c in summary["candidates"])


def test_mlflow_knows_the_data_by_its_dvc_hash(finished: Project, runs: list[Run]) -> None:
    (output,) = finished.lock()["stages"]["prepare"]["outs"]
    for stage in ("prepare", "search", "train", "evaluate"):
        run = the_only(runs, **{"spacewarps.stage": stage})
        assert run.data.tags["data.hash"] == output["md5"]
        assert run.inputs is not None
        assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == [output["md5"]]


def test_plots_and_metrics_are_there_for_dvc(finished: Project) -> None:
    shown = finished.dvc("metrics", "show", "--json").stdout
    ((path, found),) = json.loads(shown)[""]["data"].items()
    assert path == "reports/result.json"
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    assert found["data"]["accuracy"] == metrics["test"]["accuracy"]
    finished.dvc("plots", "show", "--out", "dvc_plots")
    page = (finished.folder / "dvc_plots" / "index.html").read_text()
    for name in ("accuracy over depth", "loss over depth", "validation accuracy", "loss", "confusion matrix", "ROC"):
        assert name in page
    finished.run("rm", "-r", "dvc_plots")


def test_tables_of_dvc_fit_a_terminal(finished: Project) -> None:
    for shown in (finished.dvc("metrics", "show").stdout.splitlines(), finished.experiments(columns=80)):
        assert any("accuracy" in line for line in shown)
        assert max(map(len, shown)) <= 80


def test_experiments_with_several_changed_params_fit_a_terminal(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    params = project.params()
    accuracy = f"{json.loads((project.folder / 'reports/result.json').read_text())['accuracy']:.5g}"
    params["search"]["max_layers"], params["train"]["epochs"] = 12, 345
    project.write_params(params)
    project.dvc("exp", "save", "--name", "deep-and-long", "evaluate")
    shown = project.experiments(columns=80)
    assert max(map(len, shown)) <= 80
    (row,) = [line for line in shown if "deep-and-long" in line]
    assert row.split()[-3:] == [accuracy, "12", "345"]

    params["optimiser"]["learning_rate"] = 0.00012
    project.write_params(params)
    project.dvc("exp", "save", "--name", "deep-and-slow", "evaluate")
    shown = project.experiments(columns=120)
    assert max(map(len, shown)) <= 120
    assert {"accuracy", "log_loss", "optimiser.learning_rate"} <= set(shown[1].split())
    (row,) = [line for line in shown if "deep-and-slow" in line]
    assert row.split()[-3:] == ["0.00012", "12", "345"]


def test_the_page_and_the_card_say_what_the_result_was_made_from(finished: Project, runs: list[Run]) -> None:
    page = (finished.folder / "reports/report.html").read_text()
    card = (finished.folder / "reports/card.md").read_text()
    accuracy = json.loads((finished.folder / "reports/metrics.json").read_text())["test"]["accuracy"]
    (survey,) = {out["md5"] for out in finished.lock()["stages"]["prepare"]["outs"]}
    for text in (page, card):
        assert f"an accuracy of {accuracy:.1%}" in text
        assert survey in text
        assert f"torch {torch.__version__.partition('+')[0]}" in re.sub("<[^>]*>", " ", text).replace("  ", " ")
    # All params that decide, by their names, and none of those that do not, or that name a folder.
    shown = set(re.findall(r'<th scope="row"[^>]*>([a-z]+\.[a-z_.]+|seed)</th>', page))
    recorded = finished.lock()["stages"]
    decide = {name for stage in ("search", "train", "evaluate") for name in recorded[stage]["params"]["params.yaml"]}
    assert decide <= {name for each in shown for name in beginnings(each)}
    assert not {"search.workers", "search.executor", "data.catalog", "paths.final"} & shown
    evaluated = the_only(runs, **{"spacewarps.stage": "evaluate"})
    client = MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")
    assert {"report.html", "card.md"} <= {file.path for file in client.list_artifacts(evaluated.info.run_id)}


def test_when_and_where_a_result_was_made_stands_beside_it(finished: Project) -> None:
    reports = finished.folder / "reports"
    about = json.loads((reports / "run.json").read_text(encoding="utf-8"))
    made = {name: hashlib.sha256((reports / name).read_bytes()).hexdigest() for name in ("report.html", "card.md")}
    assert about["of"] == made
    # The commit that it ran from; what it made was committed afterwards.
    assert about["commit"] == finished.git("rev-parse", "HEAD~1").strip()
    assert about["not_in_the_commit"] == []
    assert about["began"] < about["ended"]
    assert about["seconds"]["evaluate"] > about["seconds"]["features_alone"] > 0
    assert "run.json" not in finished.git("status", "--porcelain", "--ignored=no")


def beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def test_report_shows_every_picture_it_names(finished: Project) -> None:
    folder = finished.folder / "reports/report"
    page = (folder / "report.md").read_text()
    pictures = sorted(file.name for file in folder.glob("*.png"))
    assert pictures == ["confusion.png", "depth.png", "learning_curves.png", "mistakes.png", "roc.png"]
    assert all(f"({name})" in page for name in pictures)


def test_prepare_says_what_it_understood_and_what_looks_wrong(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    catalogues = sorted((project.folder / "data/demo/catalog").iterdir())
    for file in catalogues:
        file.write_text("#Table1\n" + file.read_text().replace(",", ";"))
    status, said, _ = spacewarps_here(project, "prepare")
    assert status == 0
    more = f"'{catalogues[0].name}' and {len(catalogues) - 1} more"
    assert f"  note: separated by semicolons: {more}\n" in said
    assert f"  note: lines that begin with # and were taken for comments: {len(catalogues)} in {more}\n" in said
    for name in ("samples.csv", "stamps.npy"):
        place = f"data/prepared/{name}"
        assert (project.folder / place).read_bytes() == (finished.folder / place).read_bytes()


def test_result_repeats_the_test_accuracy(finished: Project, spacewarps_here: SpacewarpsHere) -> None:
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    status, said, _ = spacewarps_here(finished, "result")
    assert (status, f"test accuracy {metrics['test']['accuracy']:.4f}" in said) == (0, True)


def test_a_result_of_other_params_is_told_as_such(
    finished: Project, tmp_path: Path, spacewarps_here: SpacewarpsHere
) -> None:
    shutil.copytree(finished.folder / "reports", tmp_path / "reports")
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(finished.folder / name, tmp_path / name)
    project = finished.at(tmp_path)
    params = project.params()
    _, of_these, _ = spacewarps_here(project, "result")
    assert "note:" not in of_these
    # Nor where `evaluate` ends, whose params DVC has not recorded by then.
    assert "note:" not in finished.said.read_text()
    project.write_params(params | {"search": params["search"] | {"max_layers": 6}})
    told = "search.max_layers is 6, but these results are of 2; `dvc repro` brings them up to date"
    assert spacewarps_here(project, "result") == (0, f"{of_these}  note: {told}\n", "")
    (tmp_path / "dvc.lock").unlink()
    status, said, _ = spacewarps_here(project, "result")
    assert (status, said.startswith(f"{of_these}  note: dvc.lock does not tell whether ")) == (0, True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("search.json", "["),
        ("training.json", "{}"),
        ("plots/learning_curves.csv", ""),
        ("plots/learning_curves.csv", "a\nb"),
        ("doubted_labels.csv", "id,source\na,b\n"),
    ],
)
def test_a_damaged_input_of_evaluate_is_named(
    finished: Project, spacewarps_here: SpacewarpsHere, name: str, content: str
) -> None:
    file = finished.folder / "reports" / name
    original = file.read_bytes()
    file.write_text(content)
    try:
        status, _, errors = spacewarps_here(finished, "evaluate")
    finally:
        file.write_bytes(original)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"{name}: damaged" in errors


def test_the_search_says_how_many_candidates_it_evaluated_and_mlflow_knows(finished: Project, runs: list[Run]) -> None:
    summary = json.loads((finished.folder / "reports/search.json").read_text())
    count = len(summary["candidates"])
    assert f"{count} candidates evaluated, 0 found in the journal; " in finished.said.read_text()
    metrics = the_only(runs, **{"spacewarps.stage": "search"}).data.metrics
    assert (metrics["candidates_evaluated"], metrics["candidates_found"]) == (count, 0)
    assert 0 < metrics["logging_share"] < 1


def test_a_param_that_changes_no_result_reruns_nothing(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    params = project.params()
    params["search"] |= {"executor": "processes", "workers": 7, "checkpoints": False}
    params["search"]["ray"] = {"address": "auto", "gpu_share": 0.5}
    project.write_params(params)
    assert "up to date" in project.dvc("status", "dvc.yaml").stdout
    params["search"]["threads"] = 2
    project.write_params(params)
    assert "search.threads" in project.dvc("status", "dvc.yaml").stdout


def outputs_of_search(project: Project) -> dict[str, bytes]:
    files = [*sorted((project.folder / "models/search").iterdir()), project.folder / "reports/search.json"]
    return {file.name: file.read_bytes() for file in [*files, project.folder / "reports/plots/depth.csv"]}


def test_processes_or_a_full_journal_give_the_bytes_of_one_process(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    count = len(json.loads((project.folder / "reports/search.json").read_text())["candidates"])
    assert len(project.entries()) == count
    status, said, _ = spacewarps_here(project, "search")
    assert (status, f"0 candidates evaluated, {count} found in the journal; " in said) == (0, True)
    assert outputs_of_search(project) == outputs_of_search(finished)
    shutil.rmtree(project.folder / ".spacewarps")
    params = project.params()
    params["search"] |= {"executor": "processes", "workers": 2, "checkpoints": False}
    project.write_params(params)
    status, said, _ = spacewarps_here(project, "search")
    assert (status, f"{count} candidates evaluated, 0 found in the journal; " in said) == (0, True)
    assert outputs_of_search(project) == outputs_of_search(finished)
    assert project.entries() == finished.entries()


def test_the_journal_is_listed_and_pruned_by_a_command(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    sizes = {path.name: path.stat().st_size for path in (project.folder / ".spacewarps/journal").glob("*.candidate")}
    summary = json.loads((finished.folder / "reports/search.json").read_text())
    status, said, _ = spacewarps_here(project, "journal")
    *lines, last = said.splitlines()
    assert status == 0
    assert len(lines) == len(summary["candidates"]) == len(sizes)
    expected = [f"step {c['layer']}, conv k={c['k']}, fold 1" for c in summary["candidates"]]
    assert sorted(line.split("  ")[-1] for line in lines) == sorted(expected)
    assert {line.split("  ")[1] for line in lines} == {name[:12] for name in sizes}
    assert last.startswith(f"{len(sizes)} entries, {sum(sizes.values()) / 1e6:.1f} MB in ")
    newest = next(name for name in sizes if name.startswith(lines[0].split("  ")[1]))

    status, said, _ = spacewarps_here(project, "journal", "--older-than", "1")
    assert (status, said.splitlines()[0]) == (0, "0 entries deleted, 0.0 MB")
    room = sizes[newest] / 1e6
    status, said, _ = spacewarps_here(project, "journal", "--larger-than", f"{room + 1e-6:.6f}")
    assert (status, said.splitlines()[0].split(",")[0]) == (0, f"{len(sizes) - 1} entries deleted")
    assert list(project.entries()) == [newest]
    status, said, _ = spacewarps_here(project, "journal", "--older-than", "0")
    assert said.splitlines()[0].startswith("1 entries deleted")
    assert project.entries() == {}
    status, said, _ = spacewarps_here(project, "search")
    assert (status, f"{len(sizes)} candidates evaluated, 0 found" in said) == (0, True)
    assert outputs_of_search(project) == outputs_of_search(finished)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "many"])
def test_an_age_or_size_that_is_none_is_refused(finished: Project, spacewarps_here: SpacewarpsHere, value: str) -> None:
    before = finished.entries()
    for option in ("--older-than", "--larger-than"):
        with pytest.raises(SystemExit) as caught:
            spacewarps_here(finished, "journal", f"{option}={value}")
        assert caught.value.code == 2
    assert finished.entries() == before


def test_a_journal_that_cannot_be_made_is_named(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.folder / ".spacewarps")
    (project.folder / ".spacewarps").write_text("in the way")
    status, _, errors = spacewarps_here(project, "search")
    assert (status, errors.count("\n")) == (2, 1)
    assert "the journal cannot be written" in errors
    assert "choose another folder (paths.journal)" in errors


@pytest.mark.parametrize("stage", ["search", "train", "evaluate"])
def test_outputs_of_a_stage_that_cannot_write_the_last_one_are_all_as_they_were(
    finished: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path, stage: str
) -> None:
    project = finished.copy(tmp_path / "project")
    params = project.params()
    params["seed"] += 1
    project.write_params(params)
    in_the_way = (
        project.folder
        / {
            "search": "reports/plots/depth.csv",
            "train": "reports/plots/learning_curves.csv",
            "evaluate": "reports/metrics.json",
        }[stage]
    )
    in_the_way.unlink()
    (in_the_way / "folder").mkdir(parents=True)
    files = [path for name in ("models", "reports") for path in (project.folder / name).rglob("*")]
    before = {path: path.read_bytes() for path in files if path.is_file()}
    status, _, errors = spacewarps_here(project, stage)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"{in_the_way.relative_to(project.folder)} is a folder" in errors
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path for name in ("models", "reports") for path in (project.folder / name).rglob("*")) == sorted(
        files
    )


@pytest.mark.long
@pytest.mark.parametrize("how", ["a polite kill", "Ctrl-C", "a terminal that closes"])
def test_an_interrupted_search_ends_soon_in_one_line_and_leaves_no_process(
    finished: Project, tmp_path: Path, how: str
) -> None:
    project = finished.copy(tmp_path / "project")
    params = project.params()
    params["search"] |= {"executor": "processes", "workers": 2, "epochs_per_eval": 2000}
    project.write_params(params)
    with project.start("spacewarps.cli", "search") as search:
        deadline = time.monotonic() + 300
        # The driver, the server, its helper, two workers.
        while len(processes_of_session(search.pid)) < 5 or not project.entries().keys() - finished.entries().keys():
            assert search.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        if how == "Ctrl-C":
            os.killpg(search.pid, signal.SIGINT)
        elif how == "a terminal that closes":
            os.killpg(search.pid, signal.SIGHUP)
        else:
            search.terminate()
        # Left alone it would go on for many minutes.
        _, errors = search.communicate(timeout=120)
        assert processes_of_session(search.pid) == []
    assert search.returncode == 130
    assert errors == (
        "spacewarps search: interrupted; nothing half-written is left, and the same command goes on from the finished "
        "candidates that are in the journal\n"
    )
    assert outputs_of_search(project) == outputs_of_search(finished)
    assert not list((project.folder / ".spacewarps/journal").glob(".*"))
    last, *others = project.runs()
    assert last.info.status == "KILLED"
    assert all(run.info.status != "RUNNING" for run in others)


def test_an_interrupted_stage_that_keeps_nothing_promises_nothing(make_project: Callable[[], Project]) -> None:
    project = make_project()
    project.write_params(project.params() | {"simulate": {"n_samples": 20_000}})
    with project.start("spacewarps.cli", "simulate") as simulate:
        deadline = time.monotonic() + 120
        while not list((project.folder / "data").glob("*demo*")):
            assert simulate.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        simulate.terminate()
        _, errors = simulate.communicate(timeout=60)
    assert (simulate.returncode, errors) == (130, "spacewarps simulate: interrupted; nothing half-written is left\n")
    assert not list((project.folder / "data").glob("*demo*"))
