"""How preparing a survey and predicting one grow with its size: time, and the most memory that they have.

    python benchmarks/survey_size.py [--stamps 1000 10000 100000] [--predict-up-to 100000]

Surveys are made: JPEG of 75 x 75 pixels, one a source, with `z` and `z_err`. `spacewarps prepare` is measured beside
decoding alone, on all cores; `spacewarps predict`, in one process, beside the network alone on stamps that are in
memory. Memory is what all processes have for themselves. Needs about 4 GB of disk for a million stamps.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# Idle threads sleep instead of spinning; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from spacewarps.portability import portable_environment
from spacewarps.yaml_params import read_yaml_file, write_yaml
from tiny_project import TinyProject

SIDE, CLASSES = 75, ("GALAXY", "QSO", "STAR")
FEWEST = 1000
HEADS = ("stamps", "prepare s", "stamps/s", "of decoding", "MB", "predict s", "stamps/s", "of the network", "MB")


def write_part(folder: Path, first: int, number: int) -> None:
    """Write stamps ``first`` and those after it."""
    rng = np.random.default_rng(first)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    for index in range(first, first + number):
        width = 2.0 + 3.0 * (index % len(CLASSES))
        light = rng.uniform(60, 180) * np.exp(-(x**2 + y**2) / (2 * width**2))
        pixels = (light + rng.normal(40, 6, light.shape)).clip(0, 255).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=90)
        (folder / f"s{index:08d}.jpg").write_bytes(content.getvalue())


def write_survey(folder: Path, stamps: int) -> None:
    """Write so many stamps, and their catalogue."""
    (folder / "images").mkdir(parents=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(write_part, folder / "images", start, FEWEST) for start in range(0, stamps, FEWEST)]
        for part in parts:
            part.result()
    number = np.arange(stamps)
    # A thousand rows of the sky, far enough from each other.
    ra, dec = 0.01 * (number % 30_000), 0.01 * (number // 30_000)
    label = np.array(CLASSES)[number % len(CLASSES)]
    table = {"id": [f"s{index:08d}" for index in number], "class": label, "ra": ra, "dec": dec}
    pd.DataFrame(table | {"z": 0.1 + 0.4 * (number % 3), "z_err": 0.05}).to_csv(folder / "catalog.csv", index=False)


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Return how many seconds a command took, and the most bytes that it and what it started had for themselves."""
    start, most = time.monotonic(), 0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        family = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, sum(map(own_memory, [family, *children_of(family)])))
            time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return time.monotonic() - start, most


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return all that a process has started, and these; none if it has just ended."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def own_memory(process: psutil.Process) -> int:
    """Return the bytes that are in no file, which the system could take back."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 if "RssAnon:" in status else 0


def seconds_of_decoding(images: Path) -> float:
    """Return how long all stamps of a folder take to be decoded and do nothing else."""
    from spacewarps.survey.images import StampShape
    from spacewarps.survey.settings import StampSettings
    from spacewarps.survey.stamps import decode_stamps

    files = [(Path(entry.path),) for entry in sorted(os.scandir(images), key=lambda entry: entry.name)]
    start = time.monotonic()
    for number in range(0, len(files), FEWEST):
        decode_stamps(files[number : number + FEWEST], StampShape(1, SIDE, SIDE, "uint8"), StampSettings())
    return time.monotonic() - start


def seconds_of_the_network(model: Path, images: Path) -> float:
    """Return how long the network takes for each stamp, of some that are in memory, on one thread."""
    from spacewarps.prediction.classifier import Classifier
    from spacewarps.prediction.stamps import stamps_of
    from spacewarps.survey.samples import Samples
    from spacewarps.survey.stamps import decode_stamps
    from spacewarps.training.compute import set_up_compute
    from spacewarps.training.prediction import predict_probabilities
    from spacewarps.training.settings import ComputeSettings

    compute, classifier = set_up_compute(ComputeSettings("cpu", "fp32", 1)), Classifier.load(model)
    files = [(images / f"s{index:08d}.jpg",) for index in range(FEWEST)]
    decoded = decode_stamps(files, stamps_of(classifier), classifier.reference.stamps)
    packed = np.stack([stamp for stamp in decoded if isinstance(stamp, np.ndarray)])
    features = pd.DataFrame({"z": np.full(len(packed), 0.3), "z_err": 0.05})
    samples = Samples(packed, features)
    predict_probabilities(classifier.network, samples, compute)
    start = time.monotonic()
    predict_probabilities(classifier.network, samples, compute)
    return (time.monotonic() - start) / len(packed)


def main() -> None:
    """Measure each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--predict-up-to", type=int, default=100_000)
    options = parser.parse_args()
    if any(stamps % FEWEST or stamps < FEWEST for stamps in options.stamps):
        parser.error(f"sizes are multiples of {FEWEST}")
    if any(os.environ.get(name) != value for name, value in portable_environment().items()):
        # Read when libraries are loaded: the network alone is to compute as the command does.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **portable_environment()})
    print("| " + " | ".join(HEADS) + " |")
    print("| " + " | ".join("---" for _ in HEADS) + " |")
    with tempfile.TemporaryDirectory(prefix="size") as place:
        root = Path(place)
        model: Path | None = None
        for stamps in options.stamps:
            survey = root / str(stamps)
            write_survey(survey, stamps)
            project = TinyProject(root / f"project-{stamps}", "Start", k_candidates=[16, 32])
            path = project.folder / "params.yaml"
            params = read_yaml_file(path)
            params["compute"]["kernels"] = "auto"
            params["data"] |= {"catalog": str(survey / "catalog.csv"), "images": str(survey / "images")}
            path.write_text(write_yaml(params), encoding="utf-8")
            spacewarps = [sys.executable, "-m", "spacewarps.cli"]
            prepare, memory = measured([*spacewarps, "prepare"], project.folder)
            share = seconds_of_decoding(survey / "images") / prepare
            cells = [
                f"{stamps:,}",
                f"{prepare:.1f}",
                f"{stamps / prepare:,.0f}",
                f"{share:.0%}",
                f"{memory / 1e6:,.0f}",
            ]
            if model is None:
                for stage in ("search", "train"):
                    measured([*spacewarps, stage], project.folder)
                model = project.folder / "models/final"
            if stamps <= options.predict_up_to:
                survey_of = ["--catalog", str(survey / "catalog.csv"), "--images", str(survey / "images")]
                where = ["--model", str(model), "--out", str(root / f"{stamps}.csv"), "--workers", "1"]
                predict, memory = measured([*spacewarps, "predict", *survey_of, *where], project.folder)
                share = seconds_of_the_network(model, survey / "images") * stamps / predict
                cells += [f"{predict:.1f}", f"{stamps / predict:,.0f}", f"{share:.0%}", f"{memory / 1e6:,.0f}"]
            else:
                cells += ["", "", "", ""]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
