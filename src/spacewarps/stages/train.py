"""The stage ``train``: the found architecture, trained to the end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from spacewarps.files import check_replaceable
from spacewarps.model.storage import load_progressive_model, save_model
from spacewarps.prediction.reference import REFERENCE_FILE, Reference, describe_training, write_reference
from spacewarps.progress import progress_bar, say
from spacewarps.settings import part_of
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import parts_to_learn, set_up
from spacewarps.stages.reports import DOUBTED
from spacewarps.stages.training import TrainingProgress, run_training
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.settings import StampSettings
from spacewarps.tracking.artifacts import log_model, log_survey
from spacewarps.training.compute import kind_of_machine
from spacewarps.training.final import Final, Member, Part
from spacewarps.training.label_noise import contradicted_labels
from spacewarps.training.score import Score, pooled_epochs
from spacewarps.training.settings import FinalSettings
from spacewarps.writing import write_csv, write_json

_DECIMALS = 4


def run(stage: Stage) -> None:
    """Write the network to ``paths.final``, and how it learned to ``reports/``."""
    train, final = stage.params.train, Path(stage.params.paths.final)
    with stage.tracked() as tracked:
        # Before the training, not after it.
        check_replaceable(final)
        compute = set_up(stage, stage.params.compute.threads)
        found = load_progressive_model(Path(stage.params.paths.search))
        parts = parts_to_learn(stage)
        tracked.log_machine(kind_of_machine(compute.device))
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "training")
        with progress_bar("train", sum(len(part.train) for part in parts) * train.epochs) as progress:
            observer = _Display(len(parts), train.epochs, progress)
            trained = run_training(stage, found, parts, compute=compute, seed=stage.params.seed, observer=observer)
        summary, held_out = _summary(train, trained), [part.held_out for part in parts if part.held_out is not None]
        curves = _curves(trained.members, held_out)
        epochs = range(1, train.epochs + 1)
        table = pd.DataFrame({"epoch": epochs, **curves}, columns=["epoch", "train_loss", "val_loss", "val_accuracy"])
        doubts, doubted = _doubted_labels(trained, held_out), stage.reports / DOUBTED
        with stage.outputs() as out:
            folder = out.folder(final)
            save_model(trained.network, folder)
            write_reference(_reference(stage, parts, trained), trained.network.inputs.classes, folder / REFERENCE_FILE)
            write_json(out.file(stage.reports / "training.json"), summary)
            write_csv(out.file(doubted), doubts)
            write_csv(out.file(stage.reports / "plots" / "learning_curves.csv"), table)
        tracked.tracker.log(tracked.run_id, curves=curves)
        names = {"best_epoch": "best_epoch", "val_accuracy": "best_val_accuracy", "temperature": "temperature"}
        tracked.log_metrics({name: summary[key] for key, name in names.items() if key in summary})
        tracked.log_artifacts(doubted)
        log_model(tracked, final, held_out[0] if held_out else parts[0].train.without_augmentation())
    if len(doubts):
        asked = sum(map(len, held_out))
        say(f"  {len(doubts)} of {asked} labels are contradicted by networks that did not learn from them: {doubted}")
    say(_last_word(train.data, summary))


def _reference(stage: Stage, parts: Sequence[Part], trained: Final) -> Reference:
    """Return what is to be known of the samples that the network, all of its members, learned from."""
    [first, *_], data = parts, stage.params.data
    # What one member of several has not seen, the others have.
    seen = [first.train] if first.held_out is None or stage.params.train.data == "train" else list(first)
    return describe_training(
        [part for part in seen if part is not None],
        missing_codes=data.missing_codes,
        stamps=part_of(StampSettings, data),
        positions=data.columns.positions if data.needs_positions else None,
        coverage=stage.params.train.coverage,
        thresholds=trained.thresholds,
    )


class _Display(TrainingProgress):
    """Has a line for each epoch of one network too, for several one at the end of each."""

    def __init__(self, networks: int, epochs: int, advance: Callable[[int], None]) -> None:
        super().__init__(advance)
        self._networks = networks
        self._epochs = epochs

    def epoch_finished(self, network: int, epoch: int, train_loss: float, score: Score | None) -> None:
        if self._networks > 1 and epoch < self._epochs:
            return
        which = f"network {network + 1} of {self._networks}, " if self._networks > 1 else ""
        on = "held-out" if self._networks > 1 else "validation"
        scored = f", {on} accuracy {score.accuracy:.4f}, loss {score.loss:.4f}" if score is not None else ""
        say(f"  {which}epoch {epoch} of {self._epochs}: loss {train_loss:.4f} on smoothed labels{scored}")


def _summary(settings: FinalSettings, trained: Final) -> dict[str, Any]:
    """Return what ``reports/training.json`` holds."""
    summary: dict[str, Any] = {"start": settings.start, "epochs": settings.epochs}
    if settings.data == "train":
        summary["best_epoch"] = trained.members[0].best.epoch
    else:
        summary |= {"data": settings.data, "networks": len(trained.members)}
    if settings.orientations > 1:
        summary["orientations"] = settings.orientations
    if trained.score is not None:
        summary |= {"val_accuracy": trained.score.accuracy, "val_loss": trained.score.loss}
    if settings.calibration == "temperature" and trained.uncalibrated is not None:
        summary |= {
            "temperature": trained.network.temperature,
            "val_loss_uncalibrated": trained.uncalibrated.loss,
        }
    return summary


def _doubted_labels(trained: Final, held_out: Sequence[Space_Galaxi]) -> pd.DataFrame:
    """Return the samples to look at, those first whose source has several labels, then the surest contradiction."""
    columns = ["id", "source", "label", "suggested", "p_label", "p_suggested", "source_disagrees"]
    if trained.held_out is None:
        return pd.DataFrame(columns=columns)
    labels = torch.cat([data.labels for data in held_out]).numpy()
    samples = pd.concat([data.samples for data in held_out], ignore_index=True)
    found = contradicted_labels(trained.held_out, labels)
    table = samples.iloc[found.rows][["id", "source", "label"]].assign(
        suggested=[held_out[0].classes[number] for number in found.suggested],
        p_label=trained.held_out[found.rows, labels[found.rows]].round(_DECIMALS),
        p_suggested=trained.held_out[found.rows, found.suggested].round(_DECIMALS),
        source_disagrees=(samples.groupby("source")["label"].transform("nunique") > 1).iloc[found.rows],
    )
    return table.sort_values("source_disagrees", ascending=False, kind="stable")[columns]


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
