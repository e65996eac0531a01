"""What training costs on a CUDA device: beside its peak, by batch, and with several candidates on it at once.

    python benchmarks/throughput_cuda.py [--rounds 3] [--trunks 64-64 54-86-80-90] [--batches 32 256] [--workers 1 4]

All measurements take turns, and the tables give medians over the rounds (lowest to highest). Stamps are noise: what a
step costs does not depend on what they show.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Literal

# As the command line does for its stages: read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch

from spacewarps import Augmentation, ProgressiveModel, Space_Galaxi
from spacewarps.survey.loaders import epoch_batches
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.prediction import score
from spacewarps.training.settings import ComputeSettings, Optimiser
from spacewarps.training.training import Training, run_pass
from throughput_candidates import training_flops

TRUNKS = ("16", "16-32-64", "64-64", "54-86-80-90")
BATCHES = (32, 256)
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
WORKERS = (1, 4, 8)

SAMPLES, SIDE = 2048, 75
_PEAK_SIDE, _PEAK_PRODUCTS = 8192, 10
_PATIENCE_SECONDS = 120.0

Rates = dict[str, float]


@dataclass(frozen=True)
class Task:
    """A candidate, and how it learns."""

    trunk: str
    precision: Precision
    batch: int
    #: Processes that learn such a candidate at once; 0: this one, and each part by itself.
    workers: int = 0


def main() -> None:
    """Measure everything in turn and print the tables."""
    options = _options()
    tasks = [
        Task(trunk, precision, batch)
        for trunk, precision, batch in itertools.product(options.trunks, PRECISIONS, options.batches)
    ]
    # In the precision that such a device computes in, unless it is told otherwise.
    shared = [Task(options.trunks[-1], "bf16", options.batches[0], workers) for workers in options.workers]
    found: dict[Task, list[Rates]] = {task: [] for task in (*tasks, *shared)}
    peaks: dict[Precision, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(options.rounds):
        for precision in PRECISIONS:
            peaks[precision].append(_peak(precision))
        for task in tasks:
            found[task].append(_rates(task))
        for task in shared:
            found[task].append({"training": _shared_rate(task)})
    _print_tables(options.rounds, found, peaks)


def _print_tables(rounds: int, found: dict[Task, list[Rates]], peaks: dict[Precision, list[float]]) -> None:
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"median of {rounds} rounds taken in turn (lowest to highest); one thread of the processor a process")
    for precision in PRECISIONS:
        print(f"a product of matrices of {_PEAK_SIDE} x {_PEAK_SIDE} in {precision}: {_cell(peaks[precision])} TFLOP/s")
    print("\n| trunk | precision | batch | stamps/s in training | without data | of the peak | data | evaluation |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for task in (task for task in found if task.workers == 0):
        rates = {name: [one[name] for one in found[task]] for name in found[task][0]}
        flops = training_flops(_network(task.trunk, _survey()))
        share = statistics.median(rates["learning"]) * flops / 1e12 / statistics.median(peaks[task.precision])
        cells = [_cell(rates["training"]), _cell(rates["learning"]), f"{share:.1%}"]
        cells += [_cell(rates["data"]), _cell(rates["evaluation"])]
        print(f"| {task.trunk} | {task.precision} | {task.batch} | {' | '.join(cells)} |")
    print("\n| trunk | precision | batch | candidates at once | stamps/s together |")
    print("| --- | --- | --- | --- | --- |")
    for task in (task for task in found if task.workers):
        cells = [task.trunk, task.precision, str(task.batch), str(task.workers)]
        print(f"| {' | '.join(cells)} | {_cell([one['training'] for one in found[task]])} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row (default: %(default)s)")
    parser.add_argument("--trunks", nargs="+", default=TRUNKS, metavar="K-K", help="candidates")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="samples in a batch")
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS, help="processes that share the device")
    return parser.parse_args()


def _survey() -> PreparedSurvey:
    """Return stamps of noise, of three classes."""
    rng = np.random.default_rng(1)
    number = np.arange(2 * SAMPLES)
    samples = pd.DataFrame({"id": number.astype(str), "source": number.astype(str), "ra": 0.0, "dec": 0.0})
    samples["split"] = np.where(number < SAMPLES, "train", "validation")
    samples["label"] = np.array(["GALAXY", "QSO", "STAR"])[number % 3]
    samples["z"] = rng.random(len(number))
    stamps = rng.integers(0, 256, (len(number), 1, SIDE, SIDE), dtype=np.uint8)
    return PreparedSurvey(stamps, samples, ["GALAXY", "QSO", "STAR"], ["z"])


def _network(trunk: str, survey: PreparedSurvey) -> ProgressiveModel:
    torch.manual_seed(1)
    model = ProgressiveModel((1, SIDE, SIDE), survey.features, survey.classes)
    for k in map(int, trunk.split("-")):
        model.add_block(k)
    return model


class Candidate:
    """A network that learns as a search lets it."""

    def __init__(self, task: Task) -> None:
        self.compute: Compute = set_up_compute(ComputeSettings("cuda", task.precision, 1))
        survey = _survey()
        self.train = Space_Galaxi(survey, split="train", augmentation=Augmentation())
        self.validation = Space_Galaxi(survey, split="validation")
        self.batch = task.batch
        model = _network(task.trunk, survey)
        self.training = Training(
            model,
            epochs=100,
            labels=self.train.labels,
            optimiser=Optimiser(batch_size=task.batch),
            compute=self.compute,
            seed=1,
        )

    def learn(self) -> None:
        """Pass over the samples once, as a search does."""
        for _ in run_pass([self.training], self.train, batch_size=self.batch, seed=1):
            pass
        self.training.end_pass(SAMPLES)

    def batches(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the batches of an epoch."""
        for indices in epoch_batches(SAMPLES, self.batch, seed=1, epoch=0, shuffle=True):
            yield self.train.batch(indices)

    def learn_again(self, batches: list[tuple[torch.Tensor, ...]]) -> None:
        """Pass over batches that lie on the device."""
        self.training.begin_epoch()
        for number, (images, labels, features) in enumerate(batches):
            with torch.no_grad(), self.compute.autocast():
                maps = self.training.model.maps(images, 0)
            self.training.learn(number, maps, labels, features)
        self.training.end_pass(SAMPLES)


def _rates(task: Task) -> Rates:
    """Return how many stamps a second go through each part."""
    candidate = Candidate(task)
    candidate.learn()
    there = [tuple(part.to("cuda") for part in batch) for batch in candidate.batches()]
    return {
        "training": _rate(candidate.learn),
        "learning": _rate(lambda: candidate.learn_again(there)),
        "data": _rate(lambda: [None for _ in candidate.batches()]),
        "evaluation": _rate(lambda: score(candidate.training.model, candidate.validation, candidate.compute)),
    }


def _rate(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return SAMPLES / (time.perf_counter() - start)


def _peak(precision: Precision) -> float:
    """Return the arithmetic of a large matrix product, in TFLOP/s."""
    dtype = set_up_compute(ComputeSettings("cuda", precision, 1)).precision
    left, right = (torch.rand(_PEAK_SIDE, _PEAK_SIDE, device="cuda").to(dtype) for _ in range(2))
    torch.mm(left, right)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(_PEAK_PRODUCTS):
        torch.mm(left, right)
    torch.cuda.synchronize()
    return 2 * _PEAK_SIDE**3 * _PEAK_PRODUCTS / (time.perf_counter() - start) / 1e12


def _shared_rate(task: Task) -> float:
    """Return how many stamps a second the candidates of several processes learn from, all of them all the time."""
    context = multiprocessing.get_context("spawn")
    together, said = context.Barrier(task.workers), context.SimpleQueue()
    processes = [context.Process(target=_say_rate, args=(task, together, said)) for _ in range(task.workers)]
    for process in processes:
        process.start()
    rates: list[float] = [said.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rates)


def _say_rate(task: Task, together: Barrier, said: "SimpleQueue[float]") -> None:
    candidate = Candidate(task)
    candidate.learn()
    together.wait(_PATIENCE_SECONDS)
    said.put(_rate(candidate.learn))
    # Whoever is done first keeps the device busy, or the others would seem faster than they are.
    candidate.learn()


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
