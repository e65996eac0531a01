"""Methods side by side over the outer folds of a survey: each in a process of one thread, all on the same samples.

A method sees the sources outside one part of the survey, and answers for that part. Its clock counts processor time.
Every answer is kept in a folder, so that what was interrupted goes on, on another machine too: portable kernels give it
the same bits there. All methods of one outer fold run on the machine of the first one, whose seconds they have. A table
compares methods by the paired differences of their answers, with standard errors clustered by source.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Idle threads sleep instead of spinning; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps import Augmentation, Space_Galaxi
from spacewarps.evaluation.bootstrap import mean_interval
from spacewarps.evaluation.losses import sample_losses
from spacewarps.evaluation.metrics import expected_calibration_error
from spacewarps.files import outputs
from spacewarps.model.ensemble import Network
from spacewarps.model.settings import Configuration
from spacewarps.portability import portable_environment
from spacewarps.search.clustered import estimate
from spacewarps.search.folds import deal_folds
from spacewarps.search.settings import SearchSettings
from spacewarps.seeds import derive_seed, numpy_generator
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.training.compute import Compute, own_processor, set_up_compute
from spacewarps.training.prediction import predict
from spacewarps.training.settings import ComputeSettings, FinalSettings, Optimiser
from spacewarps.writing import write_text

FOLDS = 5
#: Raised by whoever changes what a method does.
METHODS_VERSION = 1
RESAMPLES, CONFIDENCE = 2000, 0.95


class BudgetSpentError(Exception):
    """The seconds are over."""


@dataclass
class Task:
    """What one method has to do in one outer fold, and a clock.

    Args:
        train: what it may see.
        test: what it answers for.
        seed: decides all of its draws.
        budget: its seconds of processor time; infinite for the method that sets those of the others.
    """

    train: Space_Galaxi
    test: Space_Galaxi
    seed: int
    budget: float
    compute: Compute

    def __post_init__(self) -> None:
        self.trail: list[dict[str, Any]] = []
        self._start = time.process_time()

    @property
    def seconds(self) -> float:
        """Processor time spent while the clock ran."""
        return time.process_time() - self._start

    @property
    def augmentation(self) -> Augmentation:
        """That of the defaults."""
        return Augmentation()

    def check_time(self, reserve: float = 0.0) -> None:
        """Check that there are seconds left beside ``reserve``.

        Raises:
            BudgetSpentError: there are not.
        """
        if self.seconds + reserve > self.budget:
            raise BudgetSpentError

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock within the block."""
        stopped = time.process_time()
        yield
        self._start += time.process_time() - stopped

    def note(self, network: Network, what: str) -> None:
        """Note how well a network that was found on the way does on test; it decides nothing, and takes no time."""
        seconds = self.seconds
        with self.stopped():
            losses, right = losses_of(self.answers(network), self.test.labels.numpy())
        note = {"seconds": seconds, "log_loss": float(losses.mean()), "accuracy": float(right.mean()), "network": what}
        self.trail.append(note)

    def answers(self, network: Network) -> NDArray[np.float64]:
        """Return the probability of every class for each sample of test, ``[N, classes]``."""
        probabilities: NDArray[np.float64] = predict(network, self.test, self.compute).double().softmax(dim=1).numpy()
        return probabilities


#: What a method is called in tables, and what it does: it returns its network, and what that is in words.
Method = tuple[str, Callable[[Task], tuple[Network, str]]]


def losses_of(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log loss of each sample, and whether it was classified right."""
    right = probabilities.argmax(axis=1) == labels
    return sample_losses(labels, probabilities), right.astype(np.float64)


def run_here(options: argparse.Namespace, method: Method) -> None:
    """Run one method in one outer fold, and keep what it answers."""
    seed, number = options.seeds[0], options.fold
    data = Space_Galaxi(load_prepared_survey(options.survey))
    fold = deal_folds(data, FOLDS, None, seed)[number - 1]
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    task = Task(fold.train, fold.validation, derive_seed(seed, "crossvalidation", number), options.budget, compute)
    network, found = method[1](task)
    seconds = task.seconds
    test = fold.validation.samples
    record = {
        "seconds": seconds,
        "machine": own_processor(),
        "network": found,
        "trail": task.trail,
        "classes": data.classes,
        "answers": {
            **{name: test[name].tolist() for name in ("id", "source", "label")},
            "probabilities": task.answers(network).tolist(),
        },
    }
    options.kept.parent.mkdir(parents=True, exist_ok=True)
    with outputs() as out:
        write_text(out.file(options.kept), json.dumps(record))


def command_line(
    doc: str,
    methods: Mapping[str, Method],
    reference: str,
    add: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """Read the command line, with the options that ``add`` adds; a child process runs its method and ends here."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", type=Path, help="folder of a prepared survey")
    parser.add_argument("kept", type=Path, help="folder in which answers are kept")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1], help="each deals the outer folds anew (default: 1)"
    )
    parser.add_argument("--methods", nargs="+", choices=list(methods), default=list(methods), help="default: all")
    if add is not None:
        add(parser)
    parser.add_argument(
        "--folds", type=int, nargs="+", choices=range(1, FOLDS + 1), default=range(1, FOLDS + 1), help="default: all"
    )
    parser.add_argument("--run", choices=list(methods), help=argparse.SUPPRESS)
    parser.add_argument("--fold", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=float("inf"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(options, methods[options.run])
        sys.exit()
    options.methods = [reference, *(name for name in options.methods if name != reference)]
    return options


def run_all(options: argparse.Namespace, reference: str) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Run what is not kept, one process a core, and return each record by method, seed and fold.

    One outer fold after the other, and the reference first: what it takes is what the others have.
    """
    places = [(seed, fold) for seed in options.seeds for fold in options.folds]
    folder: Path = options.kept / _version(options)

    def record(method: str, place: tuple[int, int], first: Mapping[str, Any] | None) -> dict[str, Any]:
        kept = folder / f"{method}-{place[0]}-{place[1]}.json"
        if not kept.exists():
            if first and first["machine"] != own_processor():
                raise SystemExit(
                    f"{reference} ran on {first['machine']} with seed {place[0]} in fold {place[1]}, and this is "
                    f"{own_processor()}, so {method} cannot have its seconds here; leave the fold out of --folds"
                )
            command = [sys.executable, sys.argv[0], str(options.survey), str(kept), "--run", method]
            command += ["--seeds", str(place[0]), "--fold", str(place[1])]
            command += ["--budget", str(first["seconds"] if first else float("inf"))]
            # As the pipeline computes, wherever it can.
            environment = {**os.environ, **portable_environment()}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                raise SystemExit(f"{method} failed with seed {place[0]} in fold {place[1]}:\n{done.stderr}")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        losses, right = of_record(found)
        print(
            f"{method}, seed {place[0]}, fold {place[1]}: log loss {losses.mean():.4f}, accuracy {right.mean():.4f}, "
            f"{found['network']}; {found['seconds']:.0f} s",
            file=sys.stderr,
        )
        return found

    def of_place(place: tuple[int, int]) -> dict[tuple[str, int, int], dict[str, Any]]:
        first = record(reference, place, None)
        others = {(method, *place): record(method, place, first) for method in options.methods[1:]}
        return {(reference, *place): first, **others}

    records: dict[tuple[str, int, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(of_place, places):
            records |= found
    return records


def _version(options: argparse.Namespace) -> str:
    """Return the name of the answers that belong together: by survey, bits that this code computes, and defaults.

    What was measured with others is another measurement. What the methods do is not in it: whoever changes one
    raises ``METHODS_VERSION``.
    """
    command = [sys.executable, str(Path(__file__).parents[1] / "tests" / "tiny_pipeline.py"), "portable"]
    bits = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["found"]
    defaults = [SearchSettings(), FinalSettings(), Optimiser(), Augmentation(), Configuration()]
    survey = json.loads((options.survey / "survey.json").read_text(encoding="utf-8"))["sha256"]
    everything = [survey, bits, *map(repr, defaults), METHODS_VERSION]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:12]


def of_record(record: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log loss of each answer, and whether it is right."""
    labels = np.array([record["classes"].index(label) for label in record["answers"]["label"]])
    return losses_of(np.array(record["answers"]["probabilities"]), labels)


def table(
    records: Mapping[tuple[str, int, int], Mapping[str, Any]],
    methods: Mapping[str, Method],
    names: Sequence[str],
    reference: str,
) -> list[str]:
    """Return the lines of the table, in Markdown: what each method comes to, and its difference from the reference."""
    of_methods = {name: [record for (own, _, _), record in records.items() if own == name] for name in names}
    sources = np.array(
        [source for record in of_methods[reference] for source in record["answers"]["source"]], dtype=str
    )
    whole = {name: pooled(of_methods[name]) for name in names}
    less = f"less {reference}'s"
    lines = [
        f"| method | accuracy | {less} | log loss | {less} | calibration error | processor time |",
        "| --- " * 7 + "|",
    ]
    _, numbers = np.unique(sources, return_inverse=True)
    for name in names:
        cells = []
        for which in ("right", "losses"):
            values = whole[name][which]
            generator = numpy_generator(0, name, which)
            low, high = mean_interval(values, numbers, resamples=RESAMPLES, confidence=CONFIDENCE, generator=generator)
            cells.append(f"{values.mean():.4f} ({low:.4f} to {high:.4f})")
            less_by = estimate(values - whole[reference][which], sources, np.zeros(len(sources), dtype=np.int64))
            cells.append("" if name == reference else f"{less_by.mean:+.4f} ± {less_by.error:.4f}")
        error = expected_calibration_error(whole[name]["labels"], whole[name]["probabilities"])
        seconds = statistics.median(record["seconds"] for record in of_methods[name])
        lines.append(f"| {methods[name][0]} | {' | '.join(cells)} | {error:.3f} | {seconds:.0f} s |")
    return lines


def pooled(records: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return the ``losses`` of all answers, which are ``right``, their ``labels`` and ``probabilities``."""
    parts = [of_record(record) for record in records]
    labels = [[record["classes"].index(label) for label in record["answers"]["label"]] for record in records]
    return {
        "losses": np.concatenate([losses for losses, _ in parts]),
        "right": np.concatenate([right for _, right in parts]),
        "labels": np.concatenate(labels),
        "probabilities": np.concatenate([record["answers"]["probabilities"] for record in records]),
    }


def as_table_of_folds(records: Mapping[tuple[str, int, int], Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each method in each outer fold."""
    rows = []
    for (method, seed, fold), record in records.items():
        losses, right = of_record(record)
        rows.append(
            {
                "method": method,
                "seed": seed,
                "fold": fold,
                "samples": len(losses),
                "accuracy": round(float(right.mean()), 6),
                "log_loss": round(float(losses.mean()), 6),
                "seconds": round(record["seconds"], 1),
                "network": record["network"],
            }
        )
    return pd.DataFrame(rows)
