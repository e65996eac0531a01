"""The stage ``train``: the found architecture, trained to the end."""

from pathlib import Path

import pandas as pd

from spacewarps.errors import ModelError
from spacewarps.files import check_replaceable, outputs
from spacewarps.model.storage import load_model, save_model
from spacewarps.progress import progress_bar, say
from spacewarps.seeds import derive_seed
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import open_splits, set_up
from spacewarps.tracking.artifacts import log_model, log_survey
from spacewarps.training.compute import named_random_state
from spacewarps.training.fit import fit
from spacewarps.writing import write_csv, write_json


def run(stage: Stage) -> None:
    """Write the network to ``paths.final``, and how it learned to ``reports/``."""
    train, final = stage.params.train, Path(stage.params.paths.final)
    # Before the training, not after it.
    check_replaceable(final)
    compute = set_up(stage, stage.params.compute.threads)
    seed = derive_seed(stage.params.seed, "train")
    model = load_model(Path(stage.params.paths.search))
    if train.start == "fresh":
        with named_random_state(seed, "initialisation"):
            model = model.with_new_weights()
    data, validation = open_splits(stage, "train", "validation")
    with stage.tracked() as tracked:
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "training")
        with progress_bar("train", len(data) * train.epochs) as progress:
            history = fit(
                model,
                data,
                validation,
                epochs=train.epochs,
                optimiser=stage.params.optimiser,
                compute=compute,
                seed=seed,
                on_epoch=lambda epoch: say(
                    f"  epoch {epoch.epoch} of {train.epochs}: loss {epoch.train_loss:.4f} on smoothed labels, "
                    f"validation accuracy {epoch.validation.accuracy:.4f}, loss {epoch.validation.loss:.4f}"
                ),
                on_batch=progress,
            )
        best = history[0]
        for epoch in history:
            best = epoch if epoch.validation.better_than(best.validation) else best
        if best.validation.diverged:
            raise ModelError("the training diverged in every epoch; lower optimiser.learning_rate in params.yaml")
        summary = {
            "start": train.start,
            "epochs": train.epochs,
            "best_epoch": best.epoch,
            "val_accuracy": best.validation.accuracy,
            "val_loss": best.validation.loss,
        }
        curves = {
            "train_loss": [epoch.train_loss for epoch in history],
            "val_loss": [epoch.validation.loss for epoch in history],
            "val_accuracy": [epoch.validation.accuracy for epoch in history],
        }
        table = pd.DataFrame({"epoch": [epoch.epoch for epoch in history], **curves})
        with outputs() as out:
            save_model(model, out.folder(final))
            write_json(out.file(stage.reports / "training.json"), summary)
            write_csv(out.file(stage.reports / "plots" / "learning_curves.csv"), table)
        tracked.tracker.log(tracked.run_id, curves=curves)
        tracked.log_metrics({"best_epoch": best.epoch, "best_val_accuracy": best.validation.accuracy})
        log_model(tracked, final, validation)
    say(f"epoch {best.epoch} kept: validation accuracy {best.validation.accuracy:.4f}")
