"""The survey that all measurements share, and the ways of training that this project is compared with."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from spacewarps import Augmentation, Space_Galaxi
from spacewarps.model.network import Head
from spacewarps.model.settings import Configuration
from spacewarps.simulation.demo import simulate_survey
from spacewarps.survey.loaders import epoch_batches
from spacewarps.survey.prepare import prepare_survey
from spacewarps.survey.settings import SurveySettings
from spacewarps.training.compute import computes_in_bf16, keep_freed_memory, set_up_compute
from spacewarps.training.settings import ComputeSettings

BATCH = 32
# As many as the demo survey has, so that an epoch holds training and evaluation in their usual proportion.
SAMPLES = 1500


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
        self.head = Head((k, side // 2, side // 2), 0, 3, Configuration())

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.block(images), None)
        return logits


def make_survey(folder: Path) -> None:
    """Write a demo survey, as files and prepared."""
    (folder / "survey").mkdir()
    (folder / "prepared").mkdir()
    simulate_survey(folder / "survey", n_samples=SAMPLES, seed=1)
    prepare_survey(
        folder / "prepared",
        catalog=folder / "survey" / "catalog",
        images=folder / "survey" / "images",
        settings=SurveySettings(),
        seed=1,
        progress_bar=lambda _what, _total: nullcontext(lambda _done: None),
    )


def measure_common(folder: Path, k: int, threads: int) -> float:
    """Return stamps per second: decoded at every fetch, 224 x 224 RGB, float32."""
    torch.set_num_threads(threads)
    files = sorted((folder / "survey" / "images").glob("*.jpg"))[: 5 * BATCH // 2]
    batches = DataLoader(ImageFiles(files), batch_size=BATCH)
    return _train_plainly(PlainNetwork(3, k, 224), ((x, y) for x, y in batches), torch.float32)


def measure_stamps(folder: Path, k: int, threads: int) -> float:
    """Return stamps per second: decoded once, as they are, in the faster layout."""
    torch.set_num_threads(threads)
    data = Space_Galaxi(folder / "prepared", split="validation")
    network = PlainNetwork(1, k, 75).to(memory_format=torch.channels_last)
    batches = (data.batch(indices) for indices in epoch_batches(len(data), BATCH, seed=0, epoch=0, shuffle=True))
    precision = torch.bfloat16 if computes_in_bf16(torch.device("cpu")) else torch.float32
    return _train_plainly(network, ((b.images / 255, b.labels) for b in batches), precision)


def measure_allocator(folder: Path, k: int, threads: int) -> float:
    """Return stamps per second: the same, and freed memory is kept."""
    keep_freed_memory()
    return measure_stamps(folder, k, threads)


def measure_data(folder: Path, k: int, threads: int) -> float:  # noqa: ARG001 - the same arguments for every way
    """Return stamps per second of this project's data pipeline, with nothing that learns from them."""
    set_up_compute(ComputeSettings("cpu", "auto", threads))
    data = Space_Galaxi(folder / "prepared", split="train", augmentation=Augmentation())
    start, samples = 0.0, 0
    for epoch in range(4):
        for indices in epoch_batches(len(data), BATCH, seed=0, epoch=epoch, shuffle=True):
            samples += len(data.batch(indices).labels)
        if epoch == 0:
            start, samples = time.perf_counter(), 0
    return samples / (time.perf_counter() - start)


def _train_plainly(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], precision: torch.dtype) -> float:
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
