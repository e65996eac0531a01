"""The stage ``crossvalidate``: the figure to quote, from a search, a training and a test in each outer fold."""

import hashlib
import json
import time
from contextlib import closing, suppress
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch

from spacewarps.errors import SurveyError
from spacewarps.evaluation.crossvalidation import OuterFold, summarise
from spacewarps.model.ensemble import check_orientations
from spacewarps.progress import progress_bar, say
from spacewarps.provenance import fingerprint_of_code
from spacewarps.search.executors.registry import make_executor
from spacewarps.search.folds import Fold, deal_folds, hold_out
from spacewarps.search.journal import FolderJournal
from spacewarps.seeds import derive_seed
from spacewarps.settings import as_values
from spacewarps.stages.context import Stage
from spacewarps.stages.kept_folds import keep_fold, read_kept_fold
from spacewarps.stages.learning import augmentation_of, set_up
from spacewarps.stages.search_display import SearchDisplay
from spacewarps.stages.searching import run_search
from spacewarps.stages.training import TrainingProgress, run_training
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.tracking.artifacts import log_survey
from spacewarps.training.compute import kind_of_machine
from spacewarps.training.final import Part
from spacewarps.training.prediction import predict_probabilities
from spacewarps.writing import write_csv, write_json

# What decides an outer fold; what only decides how the folds are dealt or summarised is not among it.
_SECTIONS = ("augment", "compute", "model", "optimiser", "search", "train")
_WHERE_ONLY = ("executor", "workers", "checkpoints", "ray")


def run(stage: Stage) -> None:
    """Write ``reports/crossvalidation.json``, and every prediction to ``reports/crossvalidation.csv``.

    A fold that is done is kept in the journal's folder, under a hash of all that decides it: a run that was interrupted
    goes on with the next, and no fold of other params, data or code is ever taken for one of these.
    """
    settings, seed = stage.params.crossvalidate, stage.params.seed
    with stage.tracked() as tracked:
        set_up(stage, stage.params.search.threads)
        data = Space_Galaxi(load_prepared_survey(stage.prepared))
        _check_before_the_work(stage, data)
        # Which rows are one source decides how they are dealt, and no network sees it.
        ids = data.samples[["id", "source"]].to_csv(index=False)
        fingerprint = f"{data.fingerprint()} {hashlib.sha256(ids.encode()).hexdigest()}"
        found: list[OuterFold] = []
        log_survey(tracked, stage.prepared, stage.params.paths.prepared, "crossvalidation")
        for repeat in _repeats(stage):
            for number, fold in enumerate(deal_folds(data, settings.folds, None, repeat), start=1):
                done = _known_or_new(stage, fold, fingerprint, repeat, number)
                found.append(done)
                line = done.as_json(data.classes)
                say(
                    f"seed {repeat}, fold {number} of {settings.folds}: accuracy {line['accuracy']:.4f}, "
                    f"log loss {line['log_loss']:.4f}, {', '.join(done.architecture)}; {done.seconds:.0f} s"
                )
        summary = summarise(found, data.classes, stage.params.evaluate, seed)
        table = pd.concat([each.predictions.assign(seed=each.seed, fold=each.fold) for each in found])
        with stage.outputs() as out:
            write_json(out.file(stage.reports / "crossvalidation.json"), summary)
            write_csv(out.file(stage.reports / "crossvalidation.csv"), table)
        tracked.log_metrics(
            {
                **{f"crossvalidation_accuracy_{name}": summary["accuracy"][name] for name in ("mean", "low", "high")},
                "crossvalidation_log_loss": summary["log_loss"]["mean"],
                "crossvalidation_ece": summary["ece"],
            }
        )
        tracked.log_artifacts(stage.reports / "crossvalidation.json")
    accuracy, loss = summary["accuracy"], summary["log_loss"]
    say(
        f"accuracy {accuracy['mean']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f}), log loss "
        f"{loss['mean']:.4f} ({loss['low']:.4f} to {loss['high']:.4f}), calibration error {summary['ece']:.4f}"
    )


def _repeats(stage: Stage) -> range:
    return range(stage.params.seed, stage.params.seed + stage.params.crossvalidate.repeats)


def _check_before_the_work(stage: Stage, data: Space_Galaxi) -> None:
    """Refuse stamps that cannot be turned and folds that cannot be dealt now, and not after the work of hours."""
    check_orientations(stage.params.train.orientations, data.stamp_shape)
    outer = stage.params.crossvalidate.folds
    inner = [f"search.folds is {stage.params.search.folds}"]
    if stage.params.train.data == "folds":
        inner.append(f"train.folds is {stage.params.train.folds}")
    for repeat in _repeats(stage):
        try:
            folds = deal_folds(data, outer, None, repeat)
        except SurveyError as error:
            raise SurveyError(f"crossvalidate.folds is {outer}: {error}") from None
        for number, fold in enumerate(folds, start=1):
            try:
                _within(stage, fold.train, _seed(repeat, number))
            except SurveyError as error:
                raise SurveyError(
                    f"crossvalidate.folds is {outer}, {', '.join(inner)}: within outer fold {number} of seed {repeat}, "
                    f"{error}"
                ) from None


def _seed(repeat: int, number: int) -> int:
    return derive_seed(repeat, "crossvalidation", number)


def _within(stage: Stage, data: Space_Galaxi, seed: int) -> tuple[list[Fold], list[Part]]:
    """Return the folds of the search within an outer fold, and what each network of the final training learns from."""
    augmentation, split, train = augmentation_of(stage), stage.params.data.split, stage.params.train

    def deal(folds: int) -> list[Fold]:
        if folds == 1:
            return [hold_out(data, split.validation / (split.train + split.validation), augmentation, seed)]
        return deal_folds(data, folds, augmentation, seed)

    folds = deal(stage.params.search.folds)
    if train.data == "train_and_validation":
        return folds, [Part(data.augmented(augmentation), None)]
    return folds, [Part(*fold) for fold in deal(train.folds if train.data == "folds" else 1)]


def _known_or_new(stage: Stage, fold: Fold, fingerprint: str, repeat: int, number: int) -> OuterFold:
    key = _key(stage, fingerprint, repeat, number)
    kept = stage.journal / "crossvalidation" / f"{key}.fold"
    with suppress(OSError, ValueError):
        return read_kept_fold(kept, key, fold.validation)
    new = _outer_fold(stage, fold, repeat, number)
    # Answers that are not finite are refused, and must not be kept.
    new.as_json(fold.validation.classes)
    try:
        keep_fold(kept, key, new)
    except OSError as error:
        say(f"{kept}: cannot be written ({error.strerror}); the result is the same, but this fold is done again")
    return new


def _key(stage: Stage, fingerprint: str, repeat: int, number: int) -> str:
    """Return a hash of all that decides an outer fold."""
    params = {name: as_values(getattr(stage.params, name)) for name in _SECTIONS}
    search = {name: value for name, value in params["search"].items() if name not in _WHERE_ONLY}
    parts: dict[str, Any] = {
        **params,
        "search": search,
        "split": as_values(stage.params.data.split),
        "data": fingerprint,
        "folds": stage.params.crossvalidate.folds,
        "fold": [repeat, number],
        "code": fingerprint_of_code("stages.crossvalidate"),
        "versions": [torch.__version__, np.__version__, scipy.__version__],
        "machine": kind_of_machine(set_up(stage, stage.params.search.threads).device),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _outer_fold(stage: Stage, outer: Fold, repeat: int, number: int) -> OuterFold:
    params, start, seed = stage.params, time.perf_counter(), _seed(repeat, number)
    compute = set_up(stage, params.search.threads)
    folds, parts = _within(stage, outer.train, seed)
    with (
        closing(SearchDisplay(len(folds))) as display,
        closing(FolderJournal(stage.journal, every_epoch=params.search.checkpoints)) as journal,
        make_executor(params.search.executor, folds, compute, params.search) as executor,
    ):
        found = run_search(stage, params.search, folds, seed=seed, executor=executor, journal=journal, observer=display)
    compute = set_up(stage, params.compute.threads)
    with progress_bar("train", sum(len(part.train) for part in parts) * params.train.epochs) as progress:
        observer = TrainingProgress(progress)
        trained = run_training(stage, found.model, parts, compute=compute, seed=seed, observer=observer)
    test = outer.validation
    probabilities = predict_probabilities(trained.network, test, compute)
    predictions = test.samples[["id", "source", "label"]].assign(
        **{f"p_{name}": probabilities[:, column] for column, name in enumerate(test.classes)}
    )
    architecture = [block.candidate.label for block in found.history.blocks]
    return OuterFold(repeat, number, architecture, time.perf_counter() - start, predictions)
