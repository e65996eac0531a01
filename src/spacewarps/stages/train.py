"""The stage ``train``: the found architecture, trained to the end."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from spacewarps.files import check_replaceable, outputs
from spacewarps.model.ensemble import Ensemble, check_orientations
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.storage import load_progressive_model, save_model
from spacewarps.progress import progress_bar, say
from spacewarps.seeds import derive_seed
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_folds, open_train_and_validation, set_up
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.tracking.artifacts import log_model, log_survey
from spacewarps.training.calibration import fit_temperature
from spacewarps.training.compute import Compute
from spacewarps.training.final import Member, Part, answers_held_out, learn, new_start
from spacewarps.training.score import Score, pooled_epochs
from spacewarps.writing import write_csv, write_json


def run(stage: Stage) -> None:
    """Write the network to ``paths.final``, and how it learned to ``reports/``."""
    train, final = stage.params.train, Path(stage.params.paths.final)
    # Before the training, not after it.
    check_replaceable(final)
    compute = set_up(stage, stage.params.compute.threads)
    found = load_progressive_model(Path(stage.params.paths.search))
    check_orientations(train.orientations, found.inputs)
    parts = _parts(stage)
    held_out = [part.held_out for part in parts if part.held_out is not None]
    with stage.tracked() as tracked:
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "training")
        with progress_bar("train", sum(len(part.train) for part in parts) * train.epochs) as progress:
            members = _learn(stage, found, parts, compute, progress)
        network = Ensemble([member.network for member in members], train.orientations)
        summary: dict[str, Any] = {"start": train.start, "epochs": train.epochs}
        if train.data == "train":
            summary["best_epoch"] = members[0].best.epoch
        else:
            summary |= {"data": train.data, "networks": len(members)}
        if train.orientations > 1:
            summary["orientations"] = train.orientations
        if held_out:
            summary |= _measure(network, held_out, compute, calibrate=train.calibration == "temperature")
        curves = _curves(members, held_out)
        epochs = range(1, train.epochs + 1)
        table = pd.DataFrame({"epoch": epochs, **curves}, columns=["epoch", "train_loss", "val_loss", "val_accuracy"])
        with outputs() as out:
            save_model(network, out.folder(final))
            write_json(out.file(stage.reports / "training.json"), summary)
            write_csv(out.file(stage.reports / "plots" / "learning_curves.csv"), table)
        tracked.tracker.log(tracked.run_id, curves=curves)
        names = {"best_epoch": "best_epoch", "val_accuracy": "best_val_accuracy", "temperature": "temperature"}
        tracked.log_metrics({name: summary[key] for key, name in names.items() if key in summary})
        log_model(tracked, final, held_out[0] if held_out else parts[0].train.without_augmentation())
    say(_last_word(train.data, summary))


def _parts(stage: Stage) -> list[Part]:
    """Return what each network learns from, and what is held out from it."""
    if stage.params.train.data == "train_and_validation":
        return [Part(open_train_and_validation(stage), None)]
    folds = stage.params.search.folds if stage.params.train.data == "folds" else 1
    return [Part(*fold) for fold in open_folds(stage, folds)]


def _learn(
    stage: Stage, found: ProgressiveModel, parts: Sequence[Part], compute: Compute, on_batch: Callable[[int], None]
) -> list[Member]:
    train, folds = stage.params.train, stage.params.train.data == "folds"
    members = []
    for number, part in enumerate(parts):
        seed = derive_seed(stage.params.seed, "train", *([number] if folds else []))
        which = f"network {number + 1} of {len(parts)}, " * folds
        member = learn(
            new_start(found, part.train, seed) if train.start == "fresh" else found,
            part,
            keep="best" if train.data == "train" else "last",
            epochs=train.epochs,
            average=train.average,
            optimiser=stage.params.optimiser,
            compute=compute,
            seed=seed,
            on_epoch=partial(_say_epoch, which, train.epochs),
            on_batch=on_batch,
        )
        members.append(member)
    return members


def _say_epoch(which: str, epochs: int, epoch: int, train_loss: float, validation: Score | None) -> None:
    scored = (
        f", validation accuracy {validation.accuracy:.4f}, loss {validation.loss:.4f}" if validation is not None else ""
    )
    say(f"  {which}epoch {epoch} of {epochs}: loss {train_loss:.4f} on smoothed labels{scored}")


def _measure(
    network: Ensemble, held_out: Sequence[Space_Galaxi], compute: Compute, *, calibrate: bool
) -> dict[str, float]:
    """Return what ``network`` comes to on what was held out, after its temperature was fitted to that if asked for."""
    answers = answers_held_out(network.networks, held_out, compute, network.orientations)
    if not calibrate:
        score = answers.score(1.0)
        return {"val_accuracy": score.accuracy, "val_loss": score.loss}
    network.temperature = fit_temperature(answers.logits, answers.labels)
    score = answers.score(network.temperature)
    return {
        "val_accuracy": score.accuracy,
        "val_loss": score.loss,
        "temperature": network.temperature,
        "val_loss_uncalibrated": answers.score(1.0).loss,
    }


def _curves(members: Sequence[Member], held_out: Sequence[Space_Galaxi]) -> dict[str, list[float]]:
    """Return what each epoch came to, over the samples that were held out from any network."""
    if not held_out:
        return {"train_loss": members[0].losses}
    history = pooled_epochs([member.history for member in members], [len(data) for data in held_out])
    return {
        "train_loss": [epoch.train_loss for epoch in history],
        "val_loss": [epoch.validation.loss for epoch in history],
        "val_accuracy": [epoch.validation.accuracy for epoch in history],
    }


def _last_word(data: str, summary: Mapping[str, Any]) -> str:
    if data == "train_and_validation":
        return f"the end of epoch {summary['epochs']} kept; nothing was held out to measure it on"
    kept = f"epoch {summary['best_epoch']} kept: validation" if data == "train" else "all networks kept: out-of-fold"
    temperature = f", temperature {summary['temperature']:.3f}" if "temperature" in summary else ""
    return f"{kept} accuracy {summary['val_accuracy']:.4f}{temperature}"
