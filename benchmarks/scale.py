"""How time and memory grow with the survey and with the number of candidates.

Each row is a search of one step in a process of its own, on random stamps that are mapped from disk. Memory is what the
process has for itself; pages of the mapped file, which the system takes back when it wants to, are no part of it.

    python benchmarks/scale.py [--stamps 1000 10000 100000] [--candidates 1 4 16]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Idle threads sleep instead of spinning; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd

from spacewarps import Augmentation, Space_Galaxi
from spacewarps.search.history import Candidate
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import progressive_architecture_search
from spacewarps.search.settings import SearchSettings
from spacewarps.survey.prepared import SAMPLES_FILE, STAMPS_FILE, SURVEY_FILE
from spacewarps.training.compute import set_up_compute
from spacewarps.training.score import Epoch
from spacewarps.training.settings import ComputeSettings

SIDE, CLASSES = 75, ("GALAXY", "QSO", "STAR")
FEWEST = 1000


class Memory(SearchObserver):
    """Knows the most private memory that this process had."""

    def __init__(self) -> None:
        self.most = 0

    def batch_trained(self, samples: int) -> None:  # noqa: ARG002, D102
        self._look()

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002, D102
        self._look()

    def _look(self) -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        self.most = max(self.most, int(status.split("RssAnon:")[1].split()[0]) * 1024)


def write_survey(folder: Path, stamps: int) -> None:
    """Write a prepared survey of random stamps, a part at a time; four fifths are for training."""
    rng = np.random.default_rng(0)
    packed = np.lib.format.open_memmap(folder / STAMPS_FILE, "w+", np.uint8, (stamps, 1, SIDE, SIDE))
    for start in range(0, stamps, FEWEST):
        packed[start : start + FEWEST] = rng.integers(0, 256, packed[start : start + FEWEST].shape, np.uint8)
    packed.flush()
    numbers = np.arange(stamps)
    table = pd.DataFrame({"id": numbers.astype(str), "source": numbers.astype(str)})
    table["split"] = np.where(numbers % 5 < 4, "train", "validation")
    table["label"] = np.array(CLASSES)[numbers % len(CLASSES)]
    for name in ("ra", "dec", "z", "z_err"):
        table[name] = rng.random(stamps)
    table.to_csv(folder / SAMPLES_FILE, index=False)
    (folder / SURVEY_FILE).write_text(json.dumps({"classes": CLASSES, "features": ["z", "z_err"]}), encoding="utf-8")


def measure(folder: Path, candidates: int) -> None:
    """Search one step with as many candidates, and print what it took."""
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 2))
    train = Space_Galaxi(folder, split="train", augmentation=Augmentation())
    validation = Space_Galaxi(folder, split="validation")
    memory, start = Memory(), time.process_time()
    progressive_architecture_search(
        train,
        validation,
        # About as many parameters and as much work in each.
        SearchSettings(k_candidates=tuple(range(8, 8 + candidates)), max_layers=1, epochs_per_eval=1),
        compute=compute,
        observer=memory,
    )
    print(json.dumps({"seconds": time.process_time() - start, "memory": memory.most}))


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=int, nargs="+", default=[1000, 10_000, 100_000], help="sizes of the survey")
    parser.add_argument("--candidates", type=int, nargs="+", default=[1, 4, 16], help="on the smallest survey")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.candidates[0])
        return
    print("| stamps | candidates | processor time [s] | per stamp and candidate [ms] | private memory [MB] |")
    print("| --- | --- | --- | --- | --- |")
    rows = [(stamps, 1) for stamps in options.stamps] + [(options.stamps[0], many) for many in options.candidates[1:]]
    for stamps, candidates in rows:
        with tempfile.TemporaryDirectory() as folder:
            write_survey(Path(folder), stamps)
            command = [sys.executable, __file__, "--measure", folder, "--candidates", str(candidates)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        each = 1000 * found["seconds"] / stamps / candidates
        print(f"| {stamps:,} | {candidates} | {found['seconds']:.1f} | {each:.2f} | {found['memory'] / 1e6:.0f} |")


if __name__ == "__main__":
    main()
