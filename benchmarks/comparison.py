"""What the search finds for its compute, beside random search, Optuna and fixed networks.

All methods see the same splits of the same survey, choose from the same architectures, train with the same code on one
thread, and have the same seconds of processor time. A network counts from the moment at which it has its accuracy on
validation; its accuracy on test is measured beside the clock, and decides nothing.

    python benchmarks/comparison.py --survey PATH [--seconds 60] [--seeds 1 2 3 4 5]

PATH holds catalogues and a folder `images`. Needs Optuna: pip install '.[dev]'.
"""

import argparse
import copy
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

# Idle threads sleep instead of spinning; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib
import numpy as np
import optuna
import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torchvision.models import resnet18

from spacewarps import Augmentation, ProgressiveModel, Space_Galaxi
from spacewarps.model.network import Inputs
from spacewarps.model.storage import unpack_model
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.journal import Journal
from spacewarps.search.progressive import progressive_architecture_search
from spacewarps.search.settings import SearchSettings
from spacewarps.search.strategies import STRATEGIES
from spacewarps.seeds import derive_seed, numpy_generator
from spacewarps.survey.prepare import prepare_survey
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.survey.settings import SurveySettings
from spacewarps.training.compute import Compute, named_random_state, set_up_compute
from spacewarps.training.fit import fit
from spacewarps.training.prediction import score
from spacewarps.training.settings import ComputeSettings, Optimiser
from spacewarps.training.training import Training, run_epoch

KS, MAX_LAYERS = (8, 16, 32), 4
#: Epochs of a network that random search or Optuna starts from nothing. Tried: 6, 12 and 20.
EPOCHS = 12
#: Epochs of the stage `train`, as in params.yaml.
FINAL_EPOCHS = 20
DOCS = Path(__file__).resolve().parents[1] / "docs"


class BudgetSpentError(Exception):
    """The seconds are over."""


@dataclass(frozen=True)
class Found:
    """A network that a method had after so many seconds."""

    method: str
    seed: int
    seconds: float
    validation: float
    test: float
    network: str


class Task:
    """The data of one seed, a clock that counts processor time, and a list of what was found."""

    def __init__(self, method: str, seed: int, seconds: float, folder: Path) -> None:
        self.method, self.seed, self.budget = method, seed, seconds
        self.compute: Compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
        self.survey = load_prepared_survey(folder)
        self.train = Space_Galaxi(self.survey, split="train", augmentation=Augmentation())
        self.validation = Space_Galaxi(self.survey, split="validation")
        self.test = Space_Galaxi(self.survey, split="test")
        self.found: list[Found] = []
        self._start = time.process_time()

    @property
    def seconds(self) -> float:
        """Processor time spent while the clock ran."""
        return time.process_time() - self._start

    @property
    def inputs(self) -> Inputs:
        """What a network sees."""
        return Inputs(self.train.stamp_shape, tuple(self.train.feature_names), tuple(self.train.classes))

    def note(self, model: ProgressiveModel, validation: float, network: str) -> None:
        """Note a network if it is the best so far.

        Raises:
            BudgetSpentError: it came too late.
        """
        seconds = self.seconds
        if seconds > self.budget:
            raise BudgetSpentError
        if not self.found or validation > self.found[-1].validation:
            with self.stopped():
                test = score(model, self.test, self.compute).accuracy
            self.found.append(Found(self.method, self.seed, seconds, validation, test, network))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock within the block."""
        stopped = time.process_time()
        yield
        self._start += time.process_time() - stopped

    def new_model(self, ks: Sequence[int], names: Sequence[str | int]) -> ProgressiveModel:
        """Return a network of conv blocks with new weights."""
        with named_random_state(self.seed, *names):
            model = ProgressiveModel(*self._shapes)
            for k in ks:
                model.add_block(k)
        self.fit_normalisers(model)
        return model

    def fit_normalisers(self, model: ProgressiveModel) -> None:
        """Fit the normalisers to the training split."""
        model.fit_normalisers(self.train.stamps, self.train.features)

    def train_from_nothing(self, ks: Sequence[int], names: Sequence[str | int]) -> Iterator[float]:
        """Train a new network for EPOCHS epochs, note it after each, and yield each accuracy."""
        model, seed = self.new_model(ks, names), derive_seed(self.seed, *names)
        training = Training(
            model,
            epochs=EPOCHS,
            labels=self.train.labels,
            optimiser=Optimiser(),
            compute=self.compute,
            seed=seed,
            trains="all",
        )
        for _ in range(EPOCHS):
            for _ in run_epoch([training], self.train, self.validation, batch_size=Optimiser().batch_size, seed=seed):
                if self.seconds > self.budget:
                    raise BudgetSpentError
            accuracy = training.history[-1].validation.accuracy
            self.note(model, accuracy, "-".join(map(str, ks)))
            yield accuracy

    @property
    def _shapes(self) -> tuple[tuple[int, int, int], list[str], list[str]]:
        return self.train.stamp_shape, self.train.feature_names, self.train.classes


class Notes(Journal):
    """Notes every candidate that has finished; remembers none."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        """Note the network."""
        if len(checkpoint.epochs) == evaluation.settings.epochs:
            model = unpack_model(checkpoint.network)
            network = "-".join(map(str, model.ks))
            self.task.note(model, checkpoint.epochs[-1].validation.accuracy, network)


def grow(task: Task, strategy: str, halving: int, journal: Journal) -> ProgressiveModel:
    """Search, and return the network that was found."""
    result = progressive_architecture_search(
        task.train,
        task.validation,
        SearchSettings(k_candidates=KS, max_layers=MAX_LAYERS, halving=halving, decides="accuracy", patience=1),
        strategy=STRATEGIES[strategy](),
        compute=task.compute,
        seed=task.seed,
        journal=journal,
    )
    return result.model


def search(task: Task, strategy: str, halving: int) -> None:
    """Search, then train what was found to the end, as the pipeline does."""
    model = grow(task, strategy, halving, Notes(task))
    train(task, model, FINAL_EPOCHS, f"{'-'.join(map(str, model.ks))}, trained to the end")


def searched(task: Task) -> None:
    """Search beside the clock; then train what was found from nothing, as the fixed networks are."""
    with task.stopped():
        ks = grow(task, "greedy", 0, Journal()).ks
    train_fixed(task, task.new_model(ks, ("searched",)), "-".join(map(str, ks)))


def random_search(task: Task) -> None:
    draws, number = numpy_generator(task.seed, "random search"), 0
    while True:
        ks = [int(k) for k in draws.choice(KS, size=draws.integers(1, MAX_LAYERS + 1))]
        for _ in task.train_from_nothing(ks, ("random search", number)):
            pass
        number += 1


def optuna_search(task: Task) -> None:
    def objective(trial: optuna.Trial) -> float:
        layers = trial.suggest_int("layers", 1, MAX_LAYERS)
        ks = [int(trial.suggest_categorical(f"k{layer}", KS)) for layer in range(layers)]
        accuracy = 0.0
        for epoch, accuracy in enumerate(task.train_from_nothing(ks, ("optuna", trial.number)), start=1):
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=task.seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3),
    )
    study.optimize(objective)


class FixedResNet(ProgressiveModel):
    """torchvision's ResNet-18, fitted to stamps: they are small, so its first convolution keeps their size.

    Its features meet the same normalisers, projector and classifier as those of a network that grew.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs.stamp_shape, inputs.features, inputs.classes)
        self.resnet = resnet18(num_classes=self.configuration.embedding)
        self.resnet.conv1 = nn.Conv2d(inputs.stamp_shape[0], 64, 3, padding=1, bias=False)
        del self.head.project

    def finish(self, maps: Tensor, features: Tensor | None, depth: int) -> Tensor:  # noqa: ARG002
        """Return logits."""
        image = torch.relu(self.resnet(maps))
        assert features is not None
        joined = self.projector(self.feature_normaliser(features))
        logits: Tensor = self.head.classify(torch.cat([image, joined], dim=1))
        return logits


def train(task: Task, model: ProgressiveModel, epochs: int, network: str) -> None:
    """Train, and note the network after each epoch."""

    def check_time(_samples: int) -> None:
        if task.seconds > task.budget:
            raise BudgetSpentError

    fit(
        model,
        task.train,
        task.validation,
        epochs=epochs,
        optimiser=Optimiser(),
        compute=task.compute,
        seed=derive_seed(task.seed, "train"),
        on_epoch=lambda epoch: task.note(model, epoch.validation.accuracy, network),
        on_batch=check_time,
    )


def train_fixed(task: Task, model: ProgressiveModel, network: str) -> None:
    """Train for as many epochs as fit the seconds, which a part of one tells, beside the clock."""
    task.fit_normalisers(model)
    with task.stopped():
        epochs = max(1, int(0.97 * task.budget / _seconds_an_epoch(task, copy.deepcopy(model))))
    train(task, model, epochs, network)


def _seconds_an_epoch(task: Task, model: ProgressiveModel) -> float:
    """Return what one epoch and its scoring take, from a fifth of an epoch."""
    part = Space_Galaxi(task.survey, split="train", fraction=0.2, augmentation=Augmentation(), seed=task.seed)
    moments: list[tuple[float, int]] = []
    fit(
        model,
        part,
        part,
        epochs=1,
        optimiser=Optimiser(),
        compute=task.compute,
        seed=0,
        on_epoch=lambda _epoch: moments.append((time.process_time(), 0)),
        on_batch=lambda samples: moments.append((time.process_time(), samples)),
    )
    # The first batch takes longer than those after it.
    first, last_batch, end = moments[0], moments[-2], moments[-1]
    learning = (last_batch[0] - first[0]) / sum(samples for _, samples in moments[1:])
    scoring = (end[0] - last_batch[0]) / len(part)
    return learning * len(task.train) + scoring * len(task.validation)


def vgg(task: Task) -> None:
    ks = [16, 32, 64, 128]
    train_fixed(task, task.new_model(ks, ("vgg",)), "-".join(map(str, ks)))


def resnet(task: Task) -> None:
    with named_random_state(task.seed, "resnet"):
        model = FixedResNet(task.inputs)
    train_fixed(task, model, "ResNet-18")


#: The methods that choose a network within the seconds, then networks that were chosen before.
METHODS: dict[str, tuple[str, Callable[[Task], None]]] = {
    "greedy": ("this search: greedy", lambda task: search(task, "greedy", 0)),
    "halving": ("this search: greedy, the worse half stops at half", lambda task: search(task, "greedy", 1)),
    "beam": ("this search: beam of 2", lambda task: search(task, "beam", 0)),
    "pnas": ("this search: pnas, beam of 2, 4 trained", lambda task: search(task, "pnas", 0)),
    "random": ("random search", random_search),
    "optuna": ("Optuna: TPE and Hyperband", optuna_search),
    "searched": ("fixed: what this search finds, its own time apart", searched),
    "vgg": ("fixed: VGG-like, 16-32-64-128", vgg),
    "resnet": ("fixed: ResNet-18", resnet),
}


def prepare(survey: Path, folder: Path, seed: int) -> None:
    """Clean, split and pack the survey, with a split of its own for each seed."""
    prepare_survey(
        folder,
        catalog=survey,
        images=survey / "images",
        settings=SurveySettings(),
        seed=seed,
        progress_bar=lambda _what, _total: nullcontext(lambda _done: None),
    )


def run(options: argparse.Namespace) -> None:
    """Run one method with one seed, and print what it found."""
    task = Task(options.run, options.seeds[0], options.seconds, options.folder)
    with suppress(BudgetSpentError):
        METHODS[options.run][1](task)
    print(json.dumps([asdict(found) for found in task.found] + [{"ended": min(task.seconds, task.budget)}]))


def run_in_a_process(method: str, seed: int, folder: Path, seconds: float) -> tuple[list[Found], float]:
    """Return what a method found with a seed, and when it ended."""
    command = [sys.executable, __file__, "--run", method, "--seeds", str(seed), "--folder", str(folder)]
    done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} failed with seed {seed}:\n{done.stderr}")
    *found, end = json.loads(done.stdout.splitlines()[-1])
    print(f"{method}, seed {seed}: {found[-1] if found else 'nothing'} after {end['ended']:.0f} s", file=sys.stderr)
    return [Found(**each) for each in found], end["ended"]


def best_at(found: Sequence[Found], seconds: float) -> Found | None:
    """Return the best network that was there after so many seconds."""
    return next((each for each in reversed(found) if each.seconds <= seconds), None)


def interval(values: Sequence[float], sign: str = "") -> str:
    """Return the mean, with its sign if it is to be shown, and its 95% interval over seeds (Student's t)."""
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):{sign}.4f} ± {half:.4f}"


def table(runs: dict[tuple[str, int], tuple[list[Found], float]], seeds: Sequence[int]) -> list[str]:
    """Return the lines of the table, in Markdown."""
    lines = [
        "| method | validation | less greedy's | test | less greedy's | seconds to Optuna's best validation | ended |",
        "| --- " * 7 + "|",
    ]
    for method, (what, _) in METHODS.items():
        cells = []
        for split in ("validation", "test"):
            own, default = (
                [getattr(runs[name, seed][0][-1], split) for seed in seeds] for name in (method, next(iter(METHODS)))
            )
            pairs = [mine - its for mine, its in zip(own, default, strict=True)]
            cells += [interval(own), interval(pairs, "+") if any(pairs) else ""]
        reached = []
        for seed in seeds:
            goal = runs["optuna", seed][0][-1].validation
            reached.append(next((each.seconds for each in runs[method, seed][0] if each.validation >= goal), None))
        times = sorted(seconds for seconds in reached if seconds is not None)
        cells.append(f"{statistics.median(times):.0f} ({len(times)} of {len(seeds)} seeds)" if times else "never")
        cells.append(f"{statistics.median(runs[method, seed][1] for seed in seeds):.0f}")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def draw(runs: dict[tuple[str, int], tuple[list[Found], float]], seeds: Sequence[int], seconds: float) -> None:
    """Draw the best accuracy so far against processor time, mean over the seeds."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), sharex=True, sharey=True, layout="constrained")
    # A mean over all seeds needs all of them; before, there is nothing to draw.
    moments = np.linspace(0, seconds, 400)
    for method, (what, _) in METHODS.items():
        bests = [[best_at(runs[method, seed][0], moment) for seed in seeds] for moment in moments]
        for axis, split in zip(axes, ("validation", "test"), strict=True):
            means = [
                statistics.mean(getattr(best, split) for best in row if best) if all(row) else float("nan")
                for row in bests
            ]
            dashed = "--" if method in ("random", "optuna") else ":" if method in ("searched", "vgg", "resnet") else "-"
            axis.plot(moments, means, dashed, label=what)
            axis.set_title(f"{split} split, mean of {len(seeds)} seeds")
            axis.set_xlabel("processor time [s]")
    axes[0].set_ylabel("accuracy of the network that is best on validation")
    axes[0].set_ylim(0.86, 0.98)
    axes[1].legend(fontsize=8, loc="lower right")
    figure.savefig(DOCS / "images" / "comparison.png", dpi=110)


def write_table(lines: Sequence[str]) -> None:
    """Print the table, and put it in its place in the document."""
    print("\n".join(lines))
    page = DOCS / "comparison.md"
    begin, end = "<!-- methods -->\n", "\n<!-- end of methods -->"
    before, rest = page.read_text(encoding="utf-8").split(begin, 1)
    page.write_text(before + begin + "\n".join(lines) + end + rest.split(end, 1)[1], encoding="utf-8")


def main() -> None:
    """Run all methods with all seeds, and write table, picture and every network found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, help="folder of catalogues and images")
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of one run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="default: 1 to 5")
    parser.add_argument("--run", choices=list(METHODS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options)
        return
    if options.survey is None:
        parser.error("--survey is missing: the folder of catalogues, with a folder images in it")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        folders = {seed: Path(name, str(seed)) for seed in options.seeds}
        for seed, folder in folders.items():
            folder.mkdir()
            prepare(options.survey, folder, seed)
        tasks = [(method, seed) for seed in options.seeds for method in METHODS]
        results = pool.map(lambda task: run_in_a_process(task[0], task[1], folders[task[1]], options.seconds), tasks)
        runs = dict(zip(tasks, results, strict=True))
    with (DOCS / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Found.__annotations__)
        writer.writerows(asdict(found).values() for found_by_run, _ in runs.values() for found in found_by_run)
    draw(runs, options.seeds, options.seconds)
    write_table(table(runs, options.seeds))


if __name__ == "__main__":
    main()
