"""What tracking costs a search: with a store of this machine, and with a server that is up, stopped or not there.

Each measurement is a small search in a process of its own; the ways take turns, and ratios of times are taken within a
round. Where the clock is too noisy for them, the seconds tell that the search's thread waits for tracking: until its
run is open, in all calls of the tracker while it searches, and at its end. The first and the last do not grow with a
search.

    python benchmarks/tracking_cost.py [--rounds 3] [--epochs 3]
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# As the command line does for its stages: read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd

WAYS = {
    "none": "no tracking",
    "local": "a database of this machine",
    "server": "a server",
    "stopped": "a server that is stopped (SIGSTOP)",
    "refused": "a server that is not there",
}
WAITED = ("opening", "searching", "closing")
SIDE, SAMPLES = 32, 240

Found = dict[str, float]


def main() -> None:
    """Measure all ways in turn and print the table."""
    options = _options()
    if options.way:
        print(json.dumps(_measure(options.way, options.epochs)))
        return
    found: dict[str, list[Found]] = {way: [] for way in WAYS}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, _server(Path(name)) as (address, process):
        for number in range(1, options.rounds + 1):
            for way in WAYS:
                print(f"round {number} of {options.rounds}: {WAYS[way]}", file=sys.stderr)
                with _stopped(process, address) if way == "stopped" else contextlib.nullcontext():
                    found[way].append(_in_a_process(way, options.epochs, Path(name), address))
    print(f"median of {options.rounds} rounds taken in turn (lowest to highest); load before: {load:.1f}\n")
    print("| tracking | s | times as long as without | s until open | s while searching | s at the end |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way, rounds in found.items():
        ratios = [one["wall"] / none["wall"] for one, none in zip(rounds, found["none"], strict=True)]
        cells = [_cell([one["wall"] for one in rounds]), _cell(ratios)]
        cells += [_cell([one[part] for one in rounds]) for part in WAITED]
        print(f"| {WAYS[way]} | {' | '.join(cells)} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of each candidate (default: %(default)s)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a tracking server whose database has its tables, and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    places = [
        *("--backend-store-uri", f"sqlite:///{folder / 'server.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            *places,
        ],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(address)
        # Made once in a project's life, and no part of what is measured.
        shutil.copy(folder / "server.db", folder / "tables.db")
        yield address, process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(address: str) -> None:
    for _ in range(1200):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
            return
        time.sleep(0.5)
    sys.exit(f"the server at {address} does not start")


@contextlib.contextmanager
def _stopped(process: subprocess.Popen[bytes], address: str) -> Iterator[None]:
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        _wait_for(address)


def _in_a_process(way: str, epochs: int, folder: Path, address: str) -> Found:
    addresses = {"server": address, "stopped": address, "refused": "http://127.0.0.1:9"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    environment["MLFLOW_TRACKING_URI"] = addresses.get(way, "sqlite:///mlflow.db")
    with tempfile.TemporaryDirectory(dir=folder) as project:
        shutil.copy(folder / "tables.db", Path(project, "mlflow.db"))
        command = [sys.executable, str(Path(__file__).resolve()), "--way", way, "--epochs", str(epochs)]
        done = subprocess.run(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=True
        )
    # What the search says of its tracking comes first.
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(way: str, epochs: int) -> Found:
    """Search, and return how long it took in all and how long it waited for tracking."""
    search = _make_search(epochs)
    waited = Waiting()
    start = time.perf_counter()
    if way == "none":
        search(None)
    else:
        from spacewarps.tracking.pipeline_run import stage_run
        from spacewarps.tracking.search_runs import SearchRuns

        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            with waited.count("opening"):
                stage = stack.enter_context(stage_run("search", {"seed": 1}))
            waited.count_calls(stage.tracker)
            search(SearchRuns(stage))
            end = time.perf_counter()
        waited.seconds["closing"] = time.perf_counter() - end
    return {"wall": time.perf_counter() - start, **waited.seconds}


class Waiting:
    """Counts the seconds that a search waits for tracking."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(WAITED, 0.0)
        self._is_counting = False

    @contextlib.contextmanager
    def count(self, part: str) -> Iterator[None]:
        """Count the time of the block, once where a call makes others."""
        if self._is_counting:
            yield
            return
        self._is_counting, start = True, time.perf_counter()
        try:
            yield
        finally:
            self._is_counting = False
            self.seconds[part] += time.perf_counter() - start

    def count_calls(self, tracker: Any) -> None:
        """Count the time of all calls of the public methods of ``tracker``; the search makes them in one thread."""
        for name, method in vars(type(tracker)).items():
            if callable(method) and not name.startswith("_") and name != "close":
                setattr(tracker, name, self._counted(getattr(tracker, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            with self.count("searching"):
                return method(*arguments, **options)

        return counted


def _make_search(epochs: int) -> Callable[[Any], object]:
    """Return a search of a small survey, with all that it needs imported and opened; it takes an observer."""
    import torch._dynamo  # noqa: F401

    from spacewarps.search.folds import deal_folds
    from spacewarps.search.progressive import search_folds
    from spacewarps.search.settings import SearchSettings
    from spacewarps.survey.augmentation import Augmentation
    from spacewarps.survey.dataset import Space_Galaxi
    from spacewarps.survey.prepared import PreparedSurvey
    from spacewarps.training.compute import set_up_compute
    from spacewarps.training.settings import ComputeSettings, Optimiser

    rng = np.random.default_rng(1)
    number = np.arange(SAMPLES)
    stamps = rng.normal(60 + 40 * (number % 3)[:, None, None, None], 20, (SAMPLES, 1, SIDE, SIDE)).clip(0, 255)
    split = np.where(number % 4 == 3, "validation", "train")
    names = {"id": number.astype(str), "source": number.astype(str), "split": split, "ra": 0.0, "dec": 0.0}
    samples = pd.DataFrame({**names, "label": np.array(["GALAXY", "QSO", "STAR"])[number % 3]})
    data = Space_Galaxi(PreparedSurvey(stamps.astype(np.uint8), samples, ["GALAXY", "QSO", "STAR"], []))
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    folds = deal_folds(data, 2, Augmentation(), 1)
    settings = SearchSettings(max_layers=2, k_candidates=(8, 16, 32), epochs_per_eval=epochs)

    def search(observer: Any) -> object:
        optimiser = Optimiser(batch_size=32, learning_rate=0.01)
        return search_folds(folds, settings, optimiser=optimiser, compute=compute, seed=1, observer=observer)

    return search


if __name__ == "__main__":
    main()
