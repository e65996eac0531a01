"""What warm starts, and other settings of the search, bring and cost.

Each setting runs the whole search over seeds, on the same splits of the same survey, with every other param as it is
by default. Layer 2 is where settings can be compared directly: every search evaluates its candidates after the same
epochs, and few stop before.

    python benchmarks/search_settings.py --survey PATH [--seeds 1 2 3 4 5]

PATH holds catalogues and a folder `images`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from comparison import KS, MAX_LAYERS, Task, interval, prepare
from spacewarps.search.progressive import progressive_architecture_search
from spacewarps.search.settings import SearchSettings, WarmStart
from spacewarps.training.prediction import score

SETTINGS: dict[str, dict[str, Any]] = {
    "previous (the default)": {},
    "previous, jitter 0": {"warm_start": WarmStart("previous", jitter=0.0)},
    "siblings": {"warm_start": WarmStart("siblings")},
    "none": {"warm_start": WarmStart("none")},
    "trains: block": {"trains": "block"},
}


def run(setting: str, seed: int, folder: Path) -> None:
    """Search with one setting and one seed, and print what came of it."""
    task = Task(setting, seed, float("inf"), folder)
    result = progressive_architecture_search(
        task.train,
        task.validation,
        SearchSettings(k_candidates=KS, max_layers=MAX_LAYERS, decides="accuracy", patience=1, **SETTINGS[setting]),
        compute=task.compute,
        seed=seed,
    )
    seconds = task.seconds
    second = result.history.steps[1].candidates
    epochs = sum(len(each.epochs) for step in result.history.steps for each in step.candidates)
    found = {
        "validation": result.history.blocks[-1].score.accuracy,
        "test": score(result.model, task.test, task.compute).accuracy,
        "layers": len(result.history.blocks),
        "seconds_per_epoch": seconds / epochs,
        "layer 2, accuracy": statistics.mean(each.score.accuracy for each in second),
        "layer 2, loss": statistics.mean(each.score.loss for each in second),
        "layer 2, first epoch": statistics.mean(each.epochs[0].validation.accuracy for each in second),
    }
    print(json.dumps(found))


def run_in_a_process(setting: str, seed: int, folder: Path) -> dict[str, float]:
    """Return what came of a setting with a seed."""
    command = [sys.executable, __file__, "--run", setting, "--seeds", str(seed), "--folder", str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{setting} failed with seed {seed}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{setting}, seed {seed}: {found} in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return found


def main() -> None:
    """Run all settings with all seeds, two at once on two cores, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, help="folder of catalogues and images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="default: 1 to 5")
    parser.add_argument("--run", choices=list(SETTINGS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.seeds[0], options.folder)
        return
    if options.survey is None:
        parser.error("--survey is missing: the folder of catalogues, with a folder images in it")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for seed in options.seeds:
            Path(name, str(seed)).mkdir()
            prepare(options.survey, Path(name, str(seed)), seed)
        tasks = [(setting, seed) for seed in options.seeds for setting in SETTINGS]
        found = pool.map(lambda task: run_in_a_process(task[0], task[1], Path(name, str(task[1]))), tasks)
        runs = dict(zip(tasks, found, strict=True))
    print("\n".join(table(runs, options.seeds)))


def table(runs: dict[tuple[str, int], dict[str, float]], seeds: Sequence[int]) -> list[str]:
    """Return the lines of the table, in Markdown."""
    columns = ("layer 2, first epoch", "layer 2, accuracy", "layer 2, loss", "validation", "test")
    lines = [
        f"| setting | {' | '.join(columns)} | layers | processor time of an epoch, times the default's |",
        "| --- " * (len(columns) + 3) + "|",
    ]
    default = next(iter(SETTINGS))
    for setting in SETTINGS:
        own = [runs[setting, seed] for seed in seeds]
        cells = [interval([each[column] for each in own]) for column in columns]
        ratios = [runs[setting, seed]["seconds_per_epoch"] / runs[default, seed]["seconds_per_epoch"] for seed in seeds]
        layers = statistics.mean(each["layers"] for each in own)
        lines.append(f"| {setting} | {' | '.join(cells)} | {layers:.1f} | {statistics.median(ratios):.2f} |")
    return lines


if __name__ == "__main__":
    main()
