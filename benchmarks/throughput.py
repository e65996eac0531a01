"""What training costs on this machine: beside its peak, beside the common way, and where a candidate's time goes.

Each measurement is a process of its own, since an allocator cannot be changed back. All of them take turns, and the
tables give medians over the rounds (lowest to highest).

    python benchmarks/throughput.py [--rounds 3] [--threads 1] [--k 120] [--trunks 64 54-86-80-90]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

# As the command line does for its stages: read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import throughput_candidates
import throughput_ways
from spacewarps.portability import portable_environment
from spacewarps.training.compute import computes_in_bf16

WAYS: dict[str, tuple[str, Callable[[Path, int, int], float]]] = {
    "common": ("the common way: decode each JPEG, 224 x 224 RGB, float32", throughput_ways.measure_common),
    "stamps": ("75 x 75 grey, decoded once, channels last", throughput_ways.measure_stamps),
    "allocator": ("the same, freed memory kept", throughput_ways.measure_allocator),
    "data": ("this project's data pipeline alone (gather and augment)", throughput_ways.measure_data),
}
TRUNKS = ["16", "64", "128", "256", "64-64", "128-128", "64-64-64", "54-86-80-90", "16-32-64-128-256-256"]
WORKERS_TRUNKS = ("16", "64-64")
KERNELS_TRUNKS = ("16", "16-32-64", "64-64", "54-86-80-90")
MEASURES = ("peak", "logging", "candidate", "worker", *WAYS)

Found = dict[str, float]


@dataclass(frozen=True)
class Task:
    """What one process measures."""

    measure: str
    threads: int
    trunk: str = "1"
    workers: int = 1
    kernels: str = "portable"
    precision: str = "fp32"


class Results:
    """What was found, by task: one entry for each round."""

    def __init__(self) -> None:
        self.found: dict[Task, list[Found]] = {}

    def add(self, task: Task, found: Found) -> None:
        """Add what a round found."""
        self.found.setdefault(task, []).append(found)

    def values(self, task: Task, name: str) -> list[float]:
        """Return one value of a task, by round."""
        return [found[name] for found in self.found[task]]

    def median(self, task: Task, name: str) -> float:
        """Return the median of one value of a task."""
        return statistics.median(self.values(task, name))

    def ratio(self, task: Task, other: Task, name: str) -> float:
        """Return the median over the rounds of how much more of one value a task has than another."""
        pairs = zip(self.values(task, name), self.values(other, name), strict=True)
        return statistics.median(value / base for value, base in pairs)

    def cell(self, task: Task, name: str) -> str:
        """Return the median of one value of a task with its range, as the tables show it."""
        values = self.values(task, name)
        return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


@dataclass(frozen=True)
class Plan:
    """All tasks of a round."""

    threads: int
    k: int
    trunks: list[str]

    @property
    def peak(self) -> Task:
        """The machine's arithmetic; portable products of matrices are slow."""
        return Task("peak", self.threads, kernels="native")

    def peak_of(self, task: Task) -> Task:
        """Return the task of the machine's arithmetic in the precision of ``task``."""
        return replace(self.peak, precision=task.precision)

    @property
    def logging(self) -> Task:
        """What MLflow takes."""
        return Task("logging", self.threads)

    @property
    def project(self) -> Task:
        """This project, at the architecture of the ways that it is compared with."""
        return self.candidate(str(self.k))

    def workers(self, trunk: str) -> dict[str, Task]:
        """Return the ways of using two cores, by their names."""
        return {
            "one process, one thread": Task("worker", 1, trunk),
            "one process, two threads": Task("worker", 2, trunk),
            "two processes, one thread each": Task("worker", 1, trunk, workers=2),
        }

    def way(self, name: str) -> Task:
        """Return the task of one of ``WAYS``."""
        return Task(name, self.threads, str(self.k))

    def candidate(self, trunk: str) -> Task:
        """Return the task of a candidate."""
        return Task("candidate", self.threads, trunk)

    def kernels(self, task: Task) -> dict[str, Task]:
        """Return the task with each choice of kernels and precision that this processor has, by their names."""
        native = replace(task, kernels="native")
        in_bf16 = computes_in_bf16(torch.device("cpu"))
        return {
            "native, float32": native,
            "portable": task,
            **({"native, bfloat16": replace(native, precision="bf16")} if in_bf16 else {}),
        }

    def tasks(self) -> Iterable[Task]:
        """Return all tasks, each once."""
        ways = [self.way(name) for name in WAYS]
        candidates = [self.candidate(trunk) for trunk in self.trunks]
        workers = [task for trunk in WORKERS_TRUNKS for task in self.workers(trunk).values()]
        kernels = [task for trunk in KERNELS_TRUNKS for task in self.kernels(self.candidate(trunk)).values()]
        kernels += [self.peak_of(task) for task in kernels]
        return dict.fromkeys([self.peak, *ways, self.project, *candidates, self.logging, *workers, *kernels])


def main() -> None:
    """Measure everything in turn and print the tables."""
    options = _options()
    if options.measure:
        print(json.dumps(_measure(options)))
        return
    plan = Plan(options.threads, options.k, options.trunks)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        print("making a survey", file=sys.stderr)
        throughput_ways.make_survey(Path(folder))
        results = _take_turns(plan, options.rounds, Path(folder))
    print(f"threads: {plan.threads}, portable kernels, torch {torch.__version__}, load before: {load:.1f}")
    print(f"median of {options.rounds} rounds taken in turn (lowest to highest); ratios are taken within a round")
    print(f"peak, a product of large matrices: {results.cell(plan.peak, 'gflops')} GFLOP/s")
    for table in (_ways_table, _speed_table, _shares_table, _workers_table, _kernels_table):
        print(f"\n{table(plan, results)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of a process, as search.threads (default: %(default)s)")
    parser.add_argument("--k", type=int, default=120, help="channels of the ways' one block (default: %(default)s)")
    parser.add_argument(
        "--trunks", nargs="+", default=TRUNKS, metavar="K-K", help=f"candidates (default: {' '.join(TRUNKS)})"
    )
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=["fp32", "bf16"], help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(options: argparse.Namespace) -> Found:
    """Return what this process was started to measure."""
    name, folder, threads, precision = options.measure, options.folder, options.threads, options.precision
    ks = [int(k) for k in options.trunks[0].split("-")]
    if name == "peak":
        return throughput_candidates.measure_peak(threads, precision)
    if name == "logging":
        return throughput_candidates.measure_logging(folder, threads)
    if name == "candidate":
        return throughput_candidates.measure_candidate(folder, ks, threads, precision)
    if name == "worker":
        return throughput_candidates.measure_worker(folder, ks, threads, options.meeting, options.workers)
    return {"stamps": WAYS[name][1](folder, ks[0], threads)}


def _take_turns(plan: Plan, rounds: int, folder: Path) -> Results:
    results = Results()
    for number in range(1, rounds + 1):
        for task in plan.tasks():
            what = f" {task.trunk}" if task.measure in ("candidate", "worker") else ""
            how = f"{task.kernels}, {task.precision}"
            print(f"round {number} of {rounds}: {task.measure}{what}, {how}", file=sys.stderr)
            results.add(task, _in_processes(task, folder))
    return results


def _in_processes(task: Task, folder: Path) -> Found:
    """Return what the task's processes find in fresh interpreters; the speeds of several workers add up."""
    with tempfile.TemporaryDirectory(dir=folder) as meeting:
        command = [sys.executable, __file__, "--measure", task.measure, "--folder", str(folder)]
        command += ["--trunks", task.trunk, "--threads", str(task.threads)]
        command += ["--meeting", meeting, "--workers", str(task.workers), "--precision", task.precision]
        variables = {**os.environ, **(portable_environment() if task.kernels == "portable" else {})}
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) for _ in range(task.workers)
        ]
        outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{' '.join(command)} failed")
    found: list[Found] = [json.loads(output.splitlines()[-1]) for output in outputs]
    return {name: sum(one[name] for one in found) for name in found[0]}


def _ways_table(plan: Plan, results: Results) -> str:
    """Return the table of the ways: the same architecture, the same stamps."""
    rows = [(what, plan.way(name)) for name, (what, _) in WAYS.items()]
    rows.insert(-1, ("this project, augmentation included", plan.project))
    common = plan.way("common")
    return _table(
        [f"way (one block of k = {plan.k})", "stamps/s", "times the common way"],
        [[what, results.cell(task, "stamps"), f"{results.ratio(task, common, 'stamps'):.1f}"] for what, task in rows],
    )


def _speed_table(plan: Plan, results: Results) -> str:
    """Return the table of the candidates' speed in training, evaluation apart."""
    rows = []
    for trunk in plan.trunks:
        task = plan.candidate(trunk)
        gflops, faults = results.median(task, "gflops"), results.median(task, "faults")
        share = results.ratio(task, plan.peak, "gflops")
        rows.append([trunk, results.cell(task, "stamps"), f"{gflops:.1f}", f"{share:.0%}", f"{faults:.1f}"])
    return _table(["trunk", "stamps/s in training", "GFLOP/s", "of the peak", "page faults a stamp"], rows)


def _shares_table(plan: Plan, results: Results) -> str:
    """Return the table of where a candidate's time goes, its epochs, evaluations and log together."""
    epochs, fraction = throughput_candidates.EPOCHS, throughput_candidates.FRACTION
    # Written once for a candidate, so this part of it falls on the epoch that was measured.
    logging = results.median(plan.logging, "logging") / epochs * fraction
    rows = []
    for trunk in plan.trunks:
        task = plan.candidate(trunk)
        seconds = {part: results.median(task, part) for part in throughput_candidates.PARTS}
        epoch = results.median(task, "epoch")
        seconds |= {"logging": logging, "other": epoch - sum(seconds.values())}
        around = seconds["data"] + seconds["evaluation"] + logging
        shares = [f"{value / (epoch + logging):.1%}" for value in (*seconds.values(), around)]
        rows.append([trunk, *shares])
    heading = ["trunk", *throughput_candidates.PARTS, "logging", "other", "data, evaluation and logging"]
    return (
        f"{_table(heading, rows)}\n\nshares of a candidate of {epochs} epochs on a survey of "
        f"{throughput_ways.SAMPLES} samples; MLflow takes {results.cell(plan.logging, 'logging')} s for each"
    )


def _workers_table(plan: Plan, results: Results) -> str:
    """Return the table of what one and two processes make of the same candidate."""
    rows = []
    for trunk in WORKERS_TRUNKS:
        ways = plan.workers(trunk)
        one = next(iter(ways.values()))
        rows += [
            [trunk, what, results.cell(task, "stamps"), f"{results.ratio(task, one, 'stamps'):.2f}"]
            for what, task in ways.items()
        ]
    return _table(["trunk", "candidates at once", "stamps/s together", "times the first"], rows)


def _kernels_table(plan: Plan, results: Results) -> str:
    """Return the table of what the choice of kernels and precision makes of the same candidate."""
    rows = []
    for trunk in KERNELS_TRUNKS:
        choices = plan.kernels(plan.candidate(trunk))
        first = next(iter(choices.values()))
        for what, task in choices.items():
            ratio, share = results.ratio(task, first, "stamps"), results.ratio(task, plan.peak_of(task), "gflops")
            rows.append([trunk, what, results.cell(task, "stamps"), f"{ratio:.2f}", f"{share:.0%}"])
    return _table(["trunk", "kernels", "stamps/s in training", "times the first", "of the precision's peak"], rows)


def _table(heading: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
