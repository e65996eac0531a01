"""Stamps that one network trains on in a second: the common way, its parts mended one by one, and this project.

Every row trains the same architecture, one block of k channels with the same head, on the same stamps. Each
measurement is a process of its own, since an allocator cannot be changed back; the rows take turns, and the table
gives medians over the rounds.

    python benchmarks/throughput.py [--k 120] [--rounds 3] [--threads 2]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from spacewarps import Augmentation, ProgressiveModel, Space_Galaxi
from spacewarps.model.progressive import Head, Widths
from spacewarps.survey.catalogue import Columns
from spacewarps.survey.demo import simulate_survey
from spacewarps.survey.loaders import epoch_batches
from spacewarps.survey.prepare import prepare_survey
from spacewarps.training.compute import computes_in_bf16, keep_freed_memory, set_up_compute
from spacewarps.training.fit import Optimiser, fit

BATCH = 32
ROWS = {
    "common": "the common way: decode each JPEG, 224 x 224 RGB, float32",
    "stamps": "75 x 75 grey, decoded once, channels last",
    "allocator": "the same, freed memory kept",
    "project": "this project, augmentation included",
    "data": "this project's data pipeline alone (gather and augment)",
}


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Images read from disk and enlarged one by one, as an image classifier's usual data set does."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), index % 3


class PlainNetwork(nn.Module):
    """One block, its parts in the order in which they are written down, and the head."""

    def __init__(self, channels: int, k: int, side: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, k, 3, padding=1, bias=False),
            nn.BatchNorm2d(k),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.MaxPool2d(2),
        )
        self.head = Head((k, side // 2, side // 2), 0, 3, Widths())

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.block(images), None)
        return logits


def train_plainly(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], precision: torch.dtype) -> float:
    """Return stamps per second over all batches but the first."""
    adam = torch.optim.AdamW(network.parameters())
    start, samples = 0.0, 0
    for number, (images, labels) in enumerate(batches):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits = network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        if number == 0:
            start = time.perf_counter()
        else:
            samples += len(labels)
    return samples / (time.perf_counter() - start)


def measure_common(folder: Path, k: int, threads: int) -> float:
    torch.set_num_threads(threads)
    files = sorted((folder / "survey" / "images").glob("*.jpg"))[: 3 * BATCH]
    batches = DataLoader(ImageFiles(files), batch_size=BATCH)
    return train_plainly(PlainNetwork(3, k, 224), ((x, y) for x, y in batches), torch.float32)


def measure_stamps(folder: Path, k: int, threads: int) -> float:
    torch.set_num_threads(threads)
    data = Space_Galaxi(folder / "prepared")
    network = PlainNetwork(1, k, 75).to(memory_format=torch.channels_last)
    batches = (data.batch(indices) for indices in epoch_batches(len(data), BATCH, seed=0, epoch=0, shuffle=True))
    precision = torch.bfloat16 if computes_in_bf16(torch.device("cpu")) else torch.float32
    return train_plainly(network, ((b.images / 255, b.labels) for b in batches), precision)


def measure_allocator(folder: Path, k: int, threads: int) -> float:
    keep_freed_memory()
    return measure_stamps(folder, k, threads)


def measure_project(folder: Path, k: int, threads: int) -> float:
    compute = set_up_compute("cpu", "auto", threads)
    data = Space_Galaxi(folder / "prepared", augmentation=Augmentation())
    one = Space_Galaxi(folder / "prepared", split="test")
    model = ProgressiveModel(data.stamp_shape, data.feature_names, data.classes)
    model.add_block(k)
    moments: list[tuple[float, int]] = []
    fit(
        model,
        data,
        one,
        epochs=1,
        optimiser=Optimiser(batch_size=BATCH),
        compute=compute,
        seed=0,
        keep="last",
        on_epoch=lambda _epoch: None,
        on_batch=lambda samples: moments.append((time.perf_counter(), samples)),
    )
    return sum(samples for _, samples in moments[1:]) / (moments[-1][0] - moments[0][0])


def measure_data(folder: Path, k: int, threads: int) -> float:  # noqa: ARG001
    set_up_compute("cpu", "auto", threads)
    data = Space_Galaxi(folder / "prepared", augmentation=Augmentation())
    start, samples = 0.0, 0
    for epoch in range(4):
        for indices in epoch_batches(len(data), BATCH, seed=0, epoch=epoch, shuffle=True):
            samples += len(data.batch(indices).labels)
        if epoch == 0:
            start, samples = time.perf_counter(), 0
    return samples / (time.perf_counter() - start)


MEASURES: dict[str, Callable[[Path, int, int], float]] = {
    "common": measure_common,
    "stamps": measure_stamps,
    "allocator": measure_allocator,
    "project": measure_project,
    "data": measure_data,
}


def make_survey(folder: Path) -> None:
    """Write a demo survey, as files and prepared."""
    (folder / "survey").mkdir()
    (folder / "prepared").mkdir()
    simulate_survey(folder / "survey", n_samples=400, seed=1)
    prepare_survey(
        folder / "prepared",
        catalog=folder / "survey" / "catalog",
        images=folder / "survey" / "images",
        columns=Columns(),
        features=["z", "z_err"],
        group_radius_arcsec=2.0,
        label_conflicts="keep",
        fraction=1.0,
        shares={"train": 0.6, "validation": 0.2, "test": 0.2},
        max_bad_fraction=0.05,
        seed=1,
        progress_bar=lambda _what, _total: nullcontext(lambda _done: None),
    )


def measure_in_a_process(name: str, folder: Path, options: argparse.Namespace) -> float:
    """Return what ``MEASURES[name]`` gives in a fresh interpreter."""
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    command += ["--k", str(options.k), "--threads", str(options.threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Measure all rows in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=120, help="channels of the block (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of a process (default: %(default)s)")
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(MEASURES[options.measure](options.folder, options.k, options.threads))
        return
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        make_survey(Path(folder))
        for _ in range(options.rounds):
            for name in ROWS:
                found[name].append(measure_in_a_process(name, Path(folder), options))
    precision = "bf16" if computes_in_bf16(torch.device("cpu")) else "fp32"
    print(f"one block of k = {options.k}, {options.threads} threads, auto precision here: {precision}")
    print(f"median of {options.rounds} rounds taken in turn (lowest to highest)\n")
    print("| way | stamps/s | times the common way |\n| --- | --- | --- |")
    common = statistics.median(found["common"])
    for name, what in ROWS.items():
        middle = statistics.median(found[name])
        print(f"| {what} | {middle:.4g} ({min(found[name]):.4g} to {max(found[name]):.4g}) | {middle / common:.1f} |")
    share = statistics.median(found["data"]) / statistics.median(found["project"])
    print(f"\nthe data pipeline alone does {share:.1f} times what training consumes")


if __name__ == "__main__":
    main()
