import json

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient

from spacewarps import Space_Galaxi, load_model
from spacewarps.training.compute import set_up_compute
from spacewarps.training.fit import score


@pytest.fixture(scope="module")
def runs(finished):
    client = MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("space-warps")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert all(run.info.status == "FINISHED" for run in found)
    return found


def children(runs, parent):
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return sorted(below, key=lambda run: run.info.start_time)


def the_only(runs, **tags):
    (found,) = [run for run in runs if all(run.data.tags.get(name) == value for name, value in tags.items())]
    return found


def test_all_stages_have_run_and_a_second_repro_does_nothing(finished):
    before = (finished.folder / "dvc.lock").read_bytes()
    again = finished.dvc("repro")
    assert "Running stage" not in again.stdout
    assert "up to date" in finished.dvc("status").stdout
    assert (finished.folder / "dvc.lock").read_bytes() == before
    assert finished.git("status", "--porcelain") == ""


def test_what_dvc_hashes_names_no_machine_and_no_time(finished):
    outputs = [
        "data/prepared/audit.json",
        "data/prepared/samples.csv",
        "reports/search.json",
        "reports/training.json",
        "reports/metrics.json",
        "models/final/model.json",
        "reports/report/report.md",
    ]
    for output in outputs:
        text = (finished.folder / output).read_text()
        assert str(finished.folder) not in text
        assert "seconds" not in text


def test_search_summary_has_what_is_promised(finished):
    summary = json.loads((finished.folder / "reports/search.json").read_text())
    assert summary["num_layers"] == len(summary["architecture"])
    assert summary["final_val_accuracy"] == summary["architecture"][-1]["val_accuracy"]
    assert {"layer", "k", "channels", "val_accuracy"} <= summary["architecture"][0].keys()
    model = load_model(finished.folder / "models/search")
    assert model.trainable_params == summary["total_trainable_params"]
    assert model.ks == [layer["k"] for layer in summary["architecture"]]
    assert sum(candidate["chosen"] for candidate in summary["candidates"]) == summary["num_layers"]


def test_models_on_disk_score_what_the_reports_say(finished):
    compute = set_up_compute("cpu", finished.params()["compute"]["precision"], threads=1)
    validation = Space_Galaxi(finished.folder / "data/prepared", split="validation")
    for folder, report, name in (
        ("models/search", "reports/search.json", "final_val_accuracy"),
        ("models/final", "reports/training.json", "val_accuracy"),
    ):
        said = json.loads((finished.folder / report).read_text())[name]
        assert score(load_model(finished.folder / folder), validation, compute).accuracy == said


def test_predictions_agree_with_the_reported_test_accuracy(finished):
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    predictions = pd.read_csv(finished.folder / "reports/report/predictions.csv", dtype={"id": str, "source": str})
    assert (predictions["label"] == predictions["predicted"]).mean() == metrics["test"]["accuracy"]
    assert len(predictions) == metrics["test"]["samples"]
    assert metrics["test"]["accuracy_low"] <= metrics["test"]["accuracy"] <= metrics["test"]["accuracy_high"]
    samples = pd.read_csv(finished.folder / "data/prepared/samples.csv", dtype=str)
    assert set(predictions["id"]) == set(samples["id"][samples["split"] == "test"])


def test_mlflow_shows_one_pipeline_run_with_a_run_for_each_stage(finished, runs):
    (top,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in children(runs, top)] == ["simulate", "prepare", "search", "train", "evaluate"]
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    assert top.data.metrics["test.accuracy"] == metrics["test"]["accuracy"]
    assert top.data.params["search.max_layers"] == "2"
    start = finished.git("rev-list", "--max-parents=0", "HEAD").strip()
    assert top.data.tags["mlflow.source.git.commit"] == start


def test_mlflow_shows_each_step_and_below_it_each_candidate(finished, runs):
    summary = json.loads((finished.folder / "reports/search.json").read_text())
    steps = children(runs, the_only(runs, **{"spacewarps.stage": "search"}))
    assert [run.info.run_name for run in steps] == [f"step {i + 1}" for i in range(len(steps))]
    shown = []
    for step in steps:
        chosen = [c for c in summary["candidates"] if c["layer"] == int(step.data.params["step"]) and c["chosen"]]
        assert step.data.tags["spacewarps.chosen"] == (f"conv k={chosen[0]['k']}" if chosen else "none: no gain")
        for run in children(runs, step):
            shown.append((int(run.data.params["step"]), int(run.data.params["k"]), run.data.metrics["score"]))
            assert {"train_loss", "val_loss", "val_accuracy"} <= run.data.metrics.keys()
    assert sorted(shown) == sorted((c["layer"], c["k"], c["val_accuracy"]) for c in summary["candidates"])


def test_mlflow_knows_the_data_by_its_dvc_hash(finished, runs):
    (output,) = finished.lock()["stages"]["prepare"]["outs"]
    for stage in ("prepare", "search", "train", "evaluate"):
        run = the_only(runs, **{"spacewarps.stage": stage})
        assert run.data.tags["data.hash"] == output["md5"]
        assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == [output["md5"]]


def test_mlflow_serves_the_final_network_from_raw_stamps_and_features(finished, runs):
    train = the_only(runs, **{"spacewarps.stage": "train"})
    mlflow.set_tracking_uri(f"sqlite:///{finished.folder / 'mlflow.db'}")
    served = mlflow.pyfunc.load_model(f"runs:/{train.info.run_id}/model")
    assert served.metadata.signature.inputs.input_names() == ["stamps", "features"]
    assert served.input_example is not None
    test = Space_Galaxi(finished.folder / "data/prepared", split="test")
    stamps = np.stack([test[i].images.numpy() for i in range(3)])
    features = test.features[:3].numpy()
    expected = load_model(finished.folder / "models/final")(torch.from_numpy(stamps), torch.from_numpy(features))
    found = served.predict({"stamps": stamps, "features": features})
    np.testing.assert_array_equal(found, expected.softmax(dim=1).detach().numpy())


def test_plots_and_metrics_are_there_for_dvc(finished):
    shown = finished.dvc("metrics", "show", "--json").stdout
    assert "test" in json.loads(shown)[""]["data"]["reports/metrics.json"]["data"]
    finished.dvc("plots", "show", "--out", "dvc_plots")
    page = (finished.folder / "dvc_plots" / "index.html").read_text()
    for name in ("accuracy over depth", "validation accuracy", "loss", "confusion matrix", "ROC"):
        assert name in page
    finished.run("rm", "-r", "dvc_plots")


def test_report_shows_every_picture_it_names(finished):
    folder = finished.folder / "reports/report"
    page = (folder / "report.md").read_text()
    pictures = sorted(file.name for file in folder.glob("*.png"))
    assert pictures == ["confusion.png", "depth.png", "learning_curves.png", "mistakes.png", "roc.png"]
    assert all(f"({name})" in page for name in pictures)


def test_result_repeats_the_test_accuracy(finished):
    metrics = json.loads((finished.folder / "reports/metrics.json").read_text())
    assert f"test accuracy {metrics['test']['accuracy']:.4f}" in finished.spacewarps("result").stdout


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("search.json", "["),
        ("training.json", "{}"),
        ("plots/learning_curves.csv", ""),
        ("plots/learning_curves.csv", "a\nb"),
    ],
)
def test_a_damaged_input_of_evaluate_is_named(finished, name, content):
    file = finished.folder / "reports" / name
    original = file.read_bytes()
    file.write_text(content)
    try:
        done = finished.spacewarps("evaluate")
    finally:
        file.write_bytes(original)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{name}: damaged" in done.stderr
