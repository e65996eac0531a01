"""Batches in an order that the seed alone decides."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Sampler

from spacewarps.seeds import derive_seed, torch_generator
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.columns import Columns
from spacewarps.survey.dataset import Batch, BatchIndices, Space_Galaxi
from spacewarps.survey.in_memory import prepare_in_memory
from spacewarps.survey.prepared import load_prepared_survey

Item = TypeVar("Item")
Fetched = TypeVar("Fetched")


def epoch_batches(samples: int, batch_size: int, *, seed: int, epoch: int, shuffle: bool) -> Iterator[BatchIndices]:
    """Yield the batches of one epoch; the arguments alone decide their order, members and draws.

    Every sample comes once. The batches are as equal as they can be and none is larger than ``batch_size``: a last
    batch of one or two samples would upset BatchNorm.
    """
    order = (
        torch.randperm(samples, generator=torch_generator(seed, "shuffle", epoch)) if shuffle else torch.arange(samples)
    )
    for number, part in enumerate(torch.tensor_split(order, -(-samples // batch_size))):
        yield BatchIndices(part.tolist(), derive_seed(seed, "augmentation", epoch, number))


def fetched_ahead(fetch: Callable[[Item], Fetched], items: Iterable[Item]) -> Iterator[Fetched]:
    """Yield ``fetch(item)`` for every item, in order; while one is used, another thread fetches the next.

    Raises:
        Exception: whatever ``fetch`` raises, where its item would have come.
    """
    waiting: deque[Future[Fetched]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            waiting.append(thread.submit(fetch, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class SeededBatchSampler(Sampler[list[int]]):
    """The batches of one epoch after another, each epoch in an order of its own.

    ``epoch`` is the next one to be drawn; setting it repeats an epoch to the bit.
    """

    def __init__(self, samples: int, batch_size: int, *, seed: int, shuffle: bool) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got batch_size={batch_size}")
        self.samples, self.batch_size, self.seed, self.shuffle = samples, batch_size, seed, shuffle
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that an epoch counts once its first batch is drawn: a loader with workers asks for an iterator
        # twice and throws the first away.
        epoch, self.epoch = self.epoch, self.epoch + 1
        yield from epoch_batches(self.samples, self.batch_size, seed=self.seed, epoch=epoch, shuffle=self.shuffle)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)


def create_train_val_dataloaders(
    survey: Path | str,
    images: Path | str | None = None,
    *,
    features: Sequence[str] = ("z", "z_err"),
    batch_size: int = 32,
    fraction: float = 1.0,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    num_workers: int = 0,
    columns: Columns = Columns(),
) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """Return loaders of the training and the validation samples; no source is in both.

    Training batches are shuffled and augmented anew at every epoch, validation batches are neither. The same seed
    gives the same batches in the same order, whatever ``num_workers`` is. ``loader.dataset.classes`` and
    ``loader.dataset.feature_names`` say what there is to classify and to see.

    >>> train, validation = create_train_val_dataloaders("data/prepared", batch_size=64)  # doctest: +SKIP
    >>> images, labels, features = next(iter(train))  # doctest: +SKIP

    Args:
        survey: the folder of a prepared survey, whose split is used; or a catalogue, with ``images``.
        images: the folder of stamps, where ``survey`` is a catalogue.
        features: the feature columns, where ``survey`` is a catalogue.
        batch_size: the largest batch.
        fraction: the share of each class's sources that is used, in training and in validation.
        seed: decides the split of a catalogue, the order of the batches and every draw of the augmentation.
        augmentation: the strengths for training; the default ones without it.
        num_workers: processes that fetch batches; 0 fetches them in this one.
        columns: the catalogue's names for id, label and position, where ``survey`` is a catalogue.

    Raises:
        SurveyError: the survey cannot be used.
    """
    whole = (
        prepare_in_memory(Path(survey), Path(images), columns, list(features), seed=seed)
        if images is not None
        else load_prepared_survey(Path(survey))
    )
    loaders = []
    for split, transform in (("train", augmentation or Augmentation()), ("validation", None)):
        data = Space_Galaxi(whole, split=split, fraction=fraction, augmentation=transform, seed=seed)
        sampler = SeededBatchSampler(len(data), batch_size, seed=derive_seed(seed, split), shuffle=split == "train")
        loaders.append(DataLoader(data, batch_sampler=sampler, collate_fn=_whole_batch, num_workers=num_workers))
    return loaders[0], loaders[1]


def _whole_batch(batch: Any) -> Any:
    """Return what the data set fetched: it is a batch already."""
    return batch
