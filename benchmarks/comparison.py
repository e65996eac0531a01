"""What the search finds for its compute, beside Optuna and fixed networks, over the outer folds of a survey.

    python benchmarks/comparison.py PREPARED KEPT --name NAME [--seeds 1 2] [--folds 1 2] [--methods search optuna ...]

PREPARED is a prepared survey (`spacewarps prepare`, or `benchmarks/sdss.py`). The search runs first in each fold, with
the defaults; all others have the seconds of processor time that it took. Everything runs on one thread. Answers are
kept in the folder KEPT. The table goes to docs/comparison.md, in the place called NAME, each fold to
docs/comparison.csv. Needs Optuna: pip install '.[dev]'.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from outer_folds import BudgetSpentError, Method, Task, as_table_of_folds, command_line, of_record, run_all, table
from spacewarps import ProgressiveModel
from spacewarps.baselines.resnet import FixedResNet
from spacewarps.model.ensemble import Ensemble, Network
from spacewarps.model.storage import unpack_model
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.final import train_final
from spacewarps.search.folds import deal_folds, hold_out
from spacewarps.search.history import Candidate, Step
from spacewarps.search.journal import Journal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult, search_folds
from spacewarps.search.settings import SearchSettings
from spacewarps.seeds import derive_seed
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import named_random_state
from spacewarps.training.final import Part, learn
from spacewarps.training.fit import fit_without_validation
from spacewarps.training.settings import FinalSettings, Optimiser
from spacewarps.training.training import Training, run_epoch
from spacewarps.training.untrained import inputs_of

DEFAULTS, FINAL, OPTIMISER = SearchSettings(), FinalSettings(), Optimiser()
KS, MAX_LAYERS = DEFAULTS.candidates_by_step(), DEFAULTS.max_layers
#: Of the search, as in params.yaml.
FOLDS = 3
#: Epochs of a network that Optuna starts from nothing. Tried, on one split: 6, 12 and 20.
EPOCHS = 12
#: The share of what may be learned from that Optuna scores on, as in params.yaml.
SCORED = 0.25
DOCS = Path(__file__).resolve().parents[1] / "docs"


class _Watch(Journal, SearchObserver):
    """Notes the network of every step that joins: the mean of its fold networks. Remembers no candidate."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._networks: dict[tuple[Candidate, int], bytes] = {}

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        """Keep the network of an evaluation that is done."""
        if len(checkpoint.epochs) == evaluation.settings.epochs:
            self._networks[evaluation.candidate, evaluation.fold] = checkpoint.network

    def step_finished(self, step: Step) -> None:
        """Note the winner's."""
        if step.decision.joins:
            winner = step.decision.winner
            packed = [self._networks[winner.candidate, fold] for fold in range(len(winner.folds))]
            orientations = FINAL.orientations if len(packed) > 1 else 1
            what = "-".join(str(each.candidate.block.k) for each in winner.path)
            self._task.note(Ensemble([unpack_model(each) for each in packed], orientations), what)


def search(
    task: Task,
    settings: SearchSettings = DEFAULTS,
    final: FinalSettings = FINAL,
    optimiser: Optimiser = OPTIMISER,
    number: int = FOLDS,
) -> tuple[Network, str]:
    """Search and train what was found, as the pipeline does with these settings."""
    augmentation = task.augmentation
    single = hold_out(task.train, SCORED, augmentation, task.seed)
    folds = [single] if number == 1 else deal_folds(task.train, number, augmentation, task.seed)
    watch = _Watch(task)
    found = search_folds(
        folds,
        settings,
        optimiser=optimiser,
        compute=task.compute,
        seed=task.seed,
        journal=watch,
        observer=watch,
    )
    if final.data == "train_and_validation":
        parts = [Part(task.train.augmented(augmentation), None)]
    else:
        dealt = [single]
        if final.data == "folds" and final.folds > 1:
            dealt = deal_folds(task.train, final.folds, augmentation, task.seed)
        parts = [Part(*fold) for fold in dealt]
    trained = train_final(
        found.model,
        parts,
        final,
        optimiser=optimiser,
        compute=task.compute,
        seed=task.seed,
    )
    return trained.network, named(found)


def named(found: SearchResult) -> str:
    """Return the channels of the blocks that were found."""
    return "-".join(str(block.candidate.block.k) for block in found.history.blocks)


def as_before(task: Task) -> tuple[Network, str]:
    """Decide by the accuracy on one split, and keep the best of 20 epochs."""
    settings = SearchSettings(max_layers=4, k_candidates=(8, 16, 32), decides="accuracy", patience=1)
    final = FinalSettings(start="warm", data="train", epochs=20, orientations=1, calibration="none")
    return search(task, settings, final, number=1)


def earlier(task: Task) -> tuple[Network, str]:
    """Decide as now, on fewer and narrower blocks, and answer with fewer networks."""
    return search(task, SearchSettings(max_layers=4, k_candidates=(8, 16, 32)), FinalSettings(folds=3))


def level(task: Task) -> tuple[Network, str]:
    """Decide as now, on the same widths at every step."""
    return search(task, SearchSettings(k_candidates=(16, 32, 64)))


def wide(task: Task) -> tuple[Network, str]:
    """Decide as now, on blocks of which the first are wider."""
    return search(task, SearchSettings(k_candidates=((32, 48), (64, 96), (96, 128), (128, 192), (128, 192))))


class _OptunaTrials:
    """What Optuna is asked to minimise: the log loss on one split of a network that starts from nothing."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._fold = hold_out(task.train, SCORED, task.augmentation, task.seed)
        self._reserve, self._best = 0.0, float("inf")
        self.chosen: tuple[int, ...] = KS[0][:1]

    def __call__(self, trial: optuna.Trial) -> float:
        layers = trial.suggest_int("layers", 1, MAX_LAYERS)
        ks = tuple(int(trial.suggest_categorical(f"k{layer}", KS[layer])) for layer in range(layers))
        loss, start = float("inf"), self._task.seconds
        for epoch, (loss, model) in enumerate(self._train(ks, trial.number), start=1):
            trial.report(loss, epoch)
            if loss < self._best:
                self._best, self.chosen = loss, ks
                # What the best needs to be trained anew on all.
                self._reserve = (self._task.seconds - start) / epoch * FINAL.epochs / (1 - SCORED)
                self._task.note(Ensemble([model], FINAL.orientations), "-".join(map(str, ks)))
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    def _train(self, ks: Sequence[int], number: int) -> Iterator[tuple[float, ProgressiveModel]]:
        """Train for EPOCHS epochs, and yield the loss after each, while the seconds last."""
        model, seed = new_model(self._task, ks, number), derive_seed(self._task.seed, "optuna", number)
        training = Training(
            model,
            epochs=EPOCHS,
            labels=self._fold.train.labels,
            optimiser=OPTIMISER,
            compute=self._task.compute,
            seed=seed,
        )
        for _ in range(EPOCHS):
            for _ in run_epoch([training], *self._fold, batch_size=OPTIMISER.batch_size, seed=seed):
                self._task.check_time(self._reserve)
            yield training.history[-1].validation.loss, model


def optuna_search(task: Task) -> tuple[Network, str]:
    """Choose by the log loss on one split, then train the best anew on all, in the seconds that are left."""
    trials = _OptunaTrials(task)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=task.seed % 2**32),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3),
    )
    with suppress(BudgetSpentError):
        study.optimize(trials)
    network = train_fixed(task, new_model(task, trials.chosen), FINAL.epochs)
    return network, f"{'-'.join(map(str, trials.chosen))} of {len(study.trials)} trials"


def new_model(task: Task, ks: Sequence[int], *names: str | int) -> ProgressiveModel:
    """Return a network of conv blocks with new weights."""
    with named_random_state(task.seed, "new", *names):
        model = ProgressiveModel(task.train.stamp_shape, task.train.feature_names, task.train.classes)
        for k in ks:
            model.add_block(k)
    model.fit_normalisers(task.train.stamps, task.train.features)
    return model


def train_fixed(task: Task, model: ProgressiveModel, epochs: int) -> Network:
    """Train on all that may be seen, to the end of the schedule."""
    learn(
        model,
        Part(task.train.augmented(task.augmentation), None),
        epochs=epochs,
        average=0.0,
        optimiser=OPTIMISER,
        compute=task.compute,
        seed=derive_seed(task.seed, "train"),
        on_epoch=lambda *_: None,
        on_batch=lambda _: None,
    )
    return Ensemble([model], FINAL.orientations)


def epochs_within(task: Task, model: ProgressiveModel) -> int:
    """Return how many epochs fit the seconds, which a part of one tells, beside the clock."""
    with task.stopped():
        # Ten batches or so.
        chosen = np.arange(len(task.train)) % max(1, len(task.train) // (10 * OPTIMISER.batch_size)) == 0
        part: Space_Galaxi = task.train.subset(chosen, task.augmentation)
        moments: list[tuple[float, int]] = []
        fit_without_validation(
            copy.deepcopy(model),
            part,
            epochs=1,
            optimiser=OPTIMISER,
            compute=task.compute,
            seed=0,
            average=0.0,
            on_epoch=lambda *_: None,
            on_batch=lambda samples: moments.append((time.process_time(), samples)),
        )
    # The first batch takes longer than those after it.
    of_a_sample = (moments[-1][0] - moments[0][0]) / sum(samples for _, samples in moments[1:])
    return max(1, int(task.budget / (of_a_sample * len(task.train))))


def fixed(*ks: int, epochs: int | None = None) -> Callable[[Task], tuple[Network, str]]:
    """Return the method that trains this network, for the whole time without ``epochs``."""

    def method(task: Task) -> tuple[Network, str]:
        model = new_model(task, ks, "fixed")
        number = epochs or epochs_within(task, model)
        return train_fixed(task, model, number), f"{number} epochs"

    return method


def resnet(task: Task) -> tuple[Network, str]:
    """Train ResNet-18 for the whole time."""
    train = task.train
    with named_random_state(task.seed, "resnet"):
        model = FixedResNet(inputs_of(train))
    model.fit_normalisers(train.stamps, train.features)
    number = epochs_within(task, model)
    return train_fixed(task, model, number), f"{number} epochs"


METHODS: dict[str, Method] = {
    "search": ("this search", search),
    "wide": ("the same, k of 32, 48, then 64, 96, then 96, 128, then 128, 192", wide),
    "level": ("the same, k of 16, 32, 64 at every step", level),
    "earlier": ("the same, k of 8, 16, 32, up to four blocks, three final networks", earlier),
    "before": ("the same, deciding by the accuracy on one split, the best of 20 epochs", as_before),
    "optuna": ("Optuna: TPE and Hyperband", optuna_search),
    "vgg": ("VGG-like, 32-64-96-128, as many epochs as fit", fixed(32, 64, 96, 128)),
    "vgg30": ("VGG-like, 32-64-96-128, 30 epochs", fixed(32, 64, 96, 128, epochs=30)),
    "small30": ("VGG-like, 16-32-64-128, 30 epochs", fixed(16, 32, 64, 128, epochs=30)),
    "resnet": ("ResNet-18, as many epochs as fit", resnet),
}


def time_to_optuna(records: Mapping[tuple[str, int, int], Mapping[str, Any]]) -> list[str]:
    """Return lines on when the search had a network of the test loss that Optuna's has, trained to the end."""
    shares = []
    for (method, seed, fold), record in records.items():
        if method != "optuna":
            continue
        goal = of_record(record)[0].mean()
        own = records["search", seed, fold]
        moments = [note["seconds"] for note in own["trail"] if note["log_loss"] <= goal]
        final = own["seconds"] if of_record(own)[0].mean() <= goal else float("inf")
        shares.append(min([*moments, final]) / record["seconds"])
    if not shares:
        return []
    each = ", ".join(f"{share:.2f}" for share in sorted(shares))
    return [
        "",
        f"Test loss of Optuna's network, reached after {statistics.median(shares):.2f} of its time "
        f"(median of {len(shares)} outer folds: {each}).",
    ]


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add where the table goes."""
    parser.add_argument("--name", help="the place in docs/comparison.md; only printed without it")


def write(name: str | None, lines: Sequence[str], rows: pd.DataFrame) -> None:
    """Print the table; where it has a name, put it and each fold in their places in the documents."""
    print("\n".join(lines))
    if name is None:
        return
    page = DOCS / "comparison.md"
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if begin not in text:
        raise SystemExit(f"{page} has no place called {name}; make one: <!-- {name} -->, <!-- end of {name} -->")
    before, rest = text.split(begin, 1)
    page.write_text(before + begin + "\n".join(lines) + end + rest.split(end, 1)[1], encoding="utf-8")
    file = DOCS / "comparison.csv"
    known = pd.read_csv(file) if file.exists() else rows.assign(survey="")[:0]
    whole = pd.concat([known[known["survey"] != name], rows.assign(survey=name)], ignore_index=True)
    whole.sort_values(["survey", "method", "seed", "fold"]).to_csv(file, index=False)


def main() -> None:
    """Run all methods in all outer folds, and write the table."""
    options = command_line(__doc__ or "", METHODS, "search", add_name)
    records = run_all(options, "search")
    lines = [*table(records, METHODS, options.methods, "search"), *time_to_optuna(records)]
    write(options.name, lines, as_table_of_folds(records))


if __name__ == "__main__":
    main()
