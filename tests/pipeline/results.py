"""Results that no network has come to, in a project under git and DVC, so that what tells of them can be tested."""

import json
from typing import Any

import numpy as np
import pandas as pd
import yaml

from spacewarps.commands.answers import Answers
from spacewarps.project import init_project
from tests.pipeline.project import ROOT, Project
from tiny_project import TINY

CLASSES = ["GALAXY", "STAR"]


def draw_answers(seed: int, *, better: float = 0.0, sources: int = 100, first: int = 0) -> pd.DataFrame:
    """Draw the answers for two stamps of each source, from the one numbered ``first`` on.

    The higher ``better``, the surer is the network of the truth.
    """
    number = np.arange(2 * sources) + 2 * first
    table = pd.DataFrame({"id": [f"s{n:05d}" for n in number], "source": [f"s{n - n % 2:05d}" for n in number]})
    table["label"] = np.array(CLASSES)[number // 2 % 2]
    surety = np.random.default_rng(seed).normal(1 + better, 1, sources).repeat(2)
    of_label = 1 / (1 + np.exp(-surety))
    of_galaxy = np.where(table["label"] == "GALAXY", of_label, 1 - of_label)
    table["predicted"] = np.where(of_galaxy >= 0.5, *CLASSES)
    return table.assign(p_GALAXY=of_galaxy, p_STAR=1 - of_galaxy)


def make_project(project: Project) -> None:
    """Make a project of two stages that run nothing."""
    init_project(project.folder)
    folder = project.folder
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TINY.items():
        params[section] |= values
    project.write_params(params)
    kept = {"persist": True}
    stages = {
        "prepare": {
            "cmd": "true",
            "deps": ["data/demo/catalog"],
            "params": ["seed", "data"],
            "outs": [{"data/prepared": kept}],
        },
        "evaluate": {
            "cmd": "true",
            "deps": ["data/prepared"],
            "params": ["train", {"code.json": ["evaluate"]}],
            "outs": [{"reports/report": kept}],
            "metrics": [{"reports/metrics.json": kept | {"cache": False}}],
        },
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    for path in ("data/demo/catalog", "data/prepared", "reports/report"):
        (folder / path).mkdir(parents=True)
    (folder / "data/demo/catalog/a.csv").write_text("id\n")


def write_result(project: Project, table: pd.DataFrame, *, k: int = 8, prepared: str = "", **train: Any) -> None:
    """Write the reports of a network that gave the answers in ``table``, and record them in DVC and git."""
    params = project.params()
    params["train"] |= train
    project.write_params(params)
    folder = project.folder
    (folder / "data/prepared/samples.csv").write_text(prepared)
    table.to_csv(folder / "reports/report/predictions.csv", index=False)
    probabilities = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    answers = Answers.of(table, CLASSES, probabilities)
    accuracy = {"accuracy": answers.right.mean(), "balanced_accuracy": 0.5}
    test = accuracy | {"accuracy_low": 0.5, "accuracy_high": 0.75, "confidence": 0.95, "macro_f1": 0.5, "ece": 0.125}
    test |= {"log_loss": answers.losses.mean(), "samples": len(table), "sources": len(table) // 2}
    of_classes = {"support": dict.fromkeys(CLASSES, 5), "recall": dict.fromkeys(CLASSES, 0.5), "never_predicted": []}
    block = {"layer": 1, "kind": "conv", "k": k, "kernel_size": 3, "val_accuracy": 0.75}
    reports = {
        "metrics": {"test": test | of_classes, "baseline": {"most_frequent_class": accuracy}},
        "search": {
            "final_val_accuracy": 0.75,
            "num_layers": 1,
            "total_trainable_params": 1234,
            "stopped": "max_layers",
            "architecture": [block],
            "candidates": [block | {"chosen": True}],
        },
        "training": {"epochs": 3, "data": "folds", "networks": 2, "val_accuracy": 0.8},
    }
    for name, report in reports.items():
        (folder / "reports" / f"{name}.json").write_text(json.dumps(report))
    project.dvc("commit", "--force", "dvc.yaml")
    project.commit(f"Train with {train}")
