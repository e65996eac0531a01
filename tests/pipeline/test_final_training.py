import json
import platform
import time
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pandas as pd
import pytest
import torch

from spacewarps import Space_Galaxi, load_model
from spacewarps.model.ensemble import Ensemble
from spacewarps.model.network import ProgressiveModel
from spacewarps.portability import portable_environment
from spacewarps.search.entries import list_entries
from spacewarps.training.compute import set_up_compute
from spacewarps.training.prediction import score
from spacewarps.training.settings import ComputeSettings
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path / "project")


def train_and_evaluate(
    project: Project, spacewarps_here: SpacewarpsHere, **changes: Any
) -> tuple[dict[str, Any], pd.DataFrame, str]:
    """Return the summary of the training, its curves and the report."""
    params = project.params()
    params["train"] |= changes
    project.write_params(params)
    for stage in ("train", "evaluate"):
        status, said, errors = spacewarps_here(project, stage)
        assert (status, errors) == (0, ""), said
    reports = project.folder / "reports"
    summary = json.loads((reports / "training.json").read_text())
    return summary, pd.read_csv(reports / "plots/learning_curves.csv"), (reports / "report/report.md").read_text()


def test_one_network_learns_from_both_splits_to_the_end(project: Project, spacewarps_here: SpacewarpsHere) -> None:
    summary, curves, page = train_and_evaluate(
        project, spacewarps_here, data="train_and_validation", average=0.9, epochs=2
    )
    assert summary == {"start": "warm", "epochs": 2, "data": "train_and_validation", "networks": 1}
    assert curves["train_loss"].notna().all()
    assert curves[["val_loss", "val_accuracy"]].isna().all(axis=None)
    assert "learned from the training and validation splits together, for 2 epochs" in page
    assert isinstance(load_model(project.folder / "models/final"), ProgressiveModel)
    project.dvc("plots", "show", "--out", "dvc_plots")
    assert "train_loss" in (project.folder / "dvc_plots/index.html").read_text()


def test_a_network_for_each_fold_is_scored_on_what_it_has_not_seen(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    summary, curves, page = train_and_evaluate(
        project,
        spacewarps_here,
        folds=4,
        data="folds",
        start="fresh",
        epochs=1,
        orientations=8,
        calibration="temperature",
    )
    assert {"data": "folds", "networks": 4, "orientations": 8}.items() <= summary.items()
    assert summary["val_loss"] < summary["val_loss_uncalibrated"]
    assert len(curves) == 1
    assert "is the mean of 4" in page
    model = load_model(project.folder / "models/final")
    assert isinstance(model, Ensemble)
    assert (len(model.members), model.orientations, model.temperature) == (4, 8, summary["temperature"])
    assert not torch.equal(model.networks[0].head.project.weight, model.networks[1].head.project.weight)
    # A mean over as many samples as train and validation have.
    samples = pd.read_csv(project.folder / "data/prepared/samples.csv", dtype=str)
    known = int(samples["split"].isin(["train", "validation"]).sum())
    assert summary["val_accuracy"] * known == pytest.approx(round(summary["val_accuracy"] * known), abs=1e-9)


FOLDS = {"data": "folds", "folds": 3, "start": "fresh", "epochs": 2}


def in_the_journal(project: Project) -> dict[str, tuple[str, int, int]]:
    """Return what each network of a fold is, its epochs, and its file, which is another when it is written anew."""
    entries = list_entries(project.folder / ".spacewarps/journal")
    found = {e.path.name: (e.what, e.epochs, e.path.stat().st_ino) for e in entries}
    return {name: entry for name, entry in found.items() if entry[0].startswith("the final network")}


def test_networks_of_folds_are_trained_as_candidates_are_and_found_in_the_journal(project: Project) -> None:
    params = project.params()
    params["train"] |= FOLDS
    params["search"] |= {"executor": "processes", "workers": 2}
    params["compute"] |= {"kernels": "auto"}
    project.write_params(params)
    done = project.spacewarps("train")
    assert done.returncode == 0, done.stderr
    model = (project.folder / "models/final/model.safetensors").read_bytes()
    kept = in_the_journal(project)
    assert sorted(kept.values()) == [(f"the final network, fold {fold}", 2, ANY) for fold in (1, 2, 3)]
    # The workers refuse to compute with other kernels than this run says.
    portable = [f"{platform.machine()}, portable kernels"] if portable_environment() else []
    machines = [run.data.tags.get("spacewarps.machine") for run in project.runs()]
    assert [machine for machine in machines if machine in portable] == portable

    params["search"] |= {"executor": "inline"}
    project.write_params(params)
    assert project.spacewarps("train").returncode == 0
    assert (project.folder / "models/final/model.safetensors").read_bytes() == model
    assert in_the_journal(project) == kept


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        (FOLDS, ", and the same command goes on from the finished networks that are in the journal"),
        ({"data": "train"}, ""),
    ],
)
def test_an_interrupted_training_says_what_it_goes_on_from(
    project: Project, changes: dict[str, Any], kept: str
) -> None:
    params = project.params()
    params["train"] |= {**changes, "epochs": 5000}
    project.write_params(params)
    with project.start("spacewarps.cli", "train") as train:
        deadline = time.monotonic() + 120
        while not any(run.info.status == "RUNNING" and run.info.run_name == "train" for run in project.runs()) or (
            kept and not in_the_journal(project)
        ):
            assert train.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # A single network says each epoch, so the training is under way.
        assert train.stdout is not None
        assert kept or any("epoch 1 of" in line for line in train.stdout)
        train.terminate()
        _, errors = train.communicate(timeout=60)
    assert (train.returncode, errors) == (
        130,
        f"spacewarps train: interrupted; nothing half-written is left{kept}\n",
    )


def test_the_best_epoch_may_answer_in_eight_orientations_at_a_temperature(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    summary, _, page = train_and_evaluate(
        project, spacewarps_here, epochs=2, average=0.9, orientations=8, calibration="temperature"
    )
    assert summary["best_epoch"] in (1, 2)
    compute = set_up_compute(ComputeSettings("cpu", project.params()["compute"]["precision"], 1))
    validation = Space_Galaxi(project.folder / "data/prepared", split="validation")
    found = score(load_model(project.folder / "models/final"), validation, compute)
    assert found.accuracy == summary["val_accuracy"]
    assert found.loss == pytest.approx(summary["val_loss"], rel=1e-6)
    assert "with the mean over 8 orientations of a stamp. Its logits are divided by a temperature of" in page


def test_the_search_is_asked_for_again_where_it_left_an_ensemble(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    params = project.params()
    params["train"] |= {"orientations": 8, "epochs": 1}
    params["paths"] |= {"search": "models/final", "final": "models/other"}
    project.write_params(params)
    assert spacewarps_here(project, "train")[0] == 0
    params["paths"] |= {"search": "models/other", "final": "models/final"}
    project.write_params(params)
    status, _, errors = spacewarps_here(project, "train")
    assert (status, errors.count("\n")) == (2, 1)
    assert "models/other: holds an ensemble, where a single network is needed; search again" in errors
