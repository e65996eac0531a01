import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacewarps.errors import SurveyError
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.columns import Columns
from spacewarps.survey.dataset import Batch
from spacewarps.survey.loaders import (
    SeededBatchSampler,
    create_train_val_dataloaders,
    epoch_batches,
    fetched_ahead,
)
from tests.survey.delivery import Delivery


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def labels(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.labels for batch in batches]).tolist()


def redshifts(batches: list[Batch]) -> list[float]:
    return torch.cat([batch.features[:, 0] for batch in batches]).tolist()


def two_epochs(folder: Path, **options: Any) -> tuple[list[Batch], list[Batch], list[Batch]]:
    train, validation = create_train_val_dataloaders(folder, batch_size=8, **options)
    return list(train), list(train), list(validation)


@pytest.fixture(scope="module")
def reference(small_survey: Path) -> tuple[list[Batch], list[Batch], list[Batch]]:
    return two_epochs(small_survey, seed=3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_seed_gives_the_same_bits_whatever_the_number_of_workers(
    small_survey: Path, reference: tuple[list[Batch], ...], workers: int
) -> None:
    again = two_epochs(small_survey, seed=3, num_workers=workers)
    assert all(same(first, second) for first, second in zip(reference, again, strict=True))


def test_another_seed_gives_another_order_and_other_draws(
    small_survey: Path, reference: tuple[list[Batch], ...]
) -> None:
    other = two_epochs(small_survey, seed=4)
    assert redshifts(other[0]) != redshifts(reference[0])
    assert sorted(redshifts(other[0])) == sorted(redshifts(reference[0]))
    assert same(other[2], reference[2])


def test_epochs_differ_in_order_and_draws_and_hold_every_sample_once(reference: tuple[list[Batch], ...]) -> None:
    first, second, _ = reference
    assert redshifts(first) != redshifts(second)
    assert sorted(redshifts(first)) == sorted(redshifts(second))
    assert len(set(redshifts(first))) == 36
    images = [
        {z: image for batch in epoch for z, image in zip(batch.features[:, 0].tolist(), batch.images, strict=True)}
        for epoch in (first, second)
    ]
    assert not any(torch.equal(images[0][z], images[1][z]) for z in images[0])


def test_an_epoch_can_be_repeated_to_the_bit(small_survey: Path, reference: tuple[list[Batch], ...]) -> None:
    train, _ = create_train_val_dataloaders(small_survey, batch_size=8, seed=3)
    train.batch_sampler.epoch = 1  # type: ignore[union-attr]
    assert same(list(train), reference[1])


def test_validation_is_neither_shuffled_nor_augmented(small_survey: Path) -> None:
    train, validation = create_train_val_dataloaders(small_survey, batch_size=5, augmentation=Augmentation(noise=1))
    batches = list(validation)
    assert same(batches, list(validation))
    assert redshifts(batches) == sorted(redshifts(batches))
    stamps = validation.dataset.stamps  # type: ignore[attr-defined]
    assert (torch.cat([batch.images for batch in batches]).numpy() == stamps).all()
    assert not set(redshifts(batches)) & set(redshifts(list(train)))


def test_training_without_strengths_gives_the_stamps_as_they_are(small_survey: Path) -> None:
    train, _ = create_train_val_dataloaders(small_survey, augmentation=Augmentation(*[0] * 9))
    sums = torch.cat([batch.images for batch in train]).sum(dim=(1, 2, 3)).sort().values
    stamps = torch.from_numpy(train.dataset.stamps).float()  # type: ignore[attr-defined]
    assert torch.equal(sums, stamps.sum(dim=(1, 2, 3)).sort().values)


def test_classes_features_and_lengths_can_be_discovered(small_survey: Path) -> None:
    for loader, samples in zip(create_train_val_dataloaders(small_survey, batch_size=7), (36, 12), strict=True):
        data: Any = loader.dataset
        assert (len(data.classes), len(data.feature_names), data.stamp_shape) == (3, 2, (1, 12, 12))
        assert len(data) == samples
        assert len(loader) == len(list(loader)) == -(-samples // 7)


def test_a_fraction_is_taken_of_both_splits_with_every_class(small_survey: Path) -> None:
    loaders = create_train_val_dataloaders(small_survey, fraction=0.5)
    whole = create_train_val_dataloaders(small_survey)
    for part, all_of_it, samples in zip(loaders, whole, (18, 6), strict=True):
        batches = list(part)
        assert len(labels(batches)) == samples
        assert set(labels(batches)) == {0, 1, 2}
        assert set(redshifts(batches)) < set(redshifts(list(all_of_it)))


def test_a_catalogue_and_an_image_folder_will_do(delivery: Delivery) -> None:
    for row, z in zip(delivery.rows, range(30), strict=True):
        row["z"] = str(z)
    delivery.write()
    first, again, other = (
        [
            redshifts(list(loader))
            for loader in create_train_val_dataloaders(delivery.catalog, delivery.images, seed=seed)
        ]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert sorted(first[0] + first[1]) == list(range(30))
    assert len(first[1]) == 6
    assert set(first[1]) != set(other[1])


def test_columns_of_a_catalogue_can_have_other_names_and_what_is_odd_is_a_warning(delivery: Delivery) -> None:
    header = ("id", "class", "RA", "Dec", "z", "z_err")
    delivery.write_csv("catalog.csv", header, [list(row.values()) for row in delivery.rows])
    with pytest.raises(SurveyError, match="'RA' and 'Dec' look like positions"):
        create_train_val_dataloaders(delivery.catalog, delivery.images)
    columns = Columns(ra="RA", dec="Dec")
    train, _ = create_train_val_dataloaders(delivery.catalog, delivery.images, columns=columns)
    assert train.dataset.samples["dec"].tolist() == [5.0] * len(train.dataset)  # type: ignore[attr-defined,arg-type]
    delivery.write_csv("catalog.csv", header[:2], [list(row.values())[:2] for row in delivery.rows])
    with pytest.warns(UserWarning, match="no positions"):
        create_train_val_dataloaders(delivery.catalog, delivery.images, features=(), columns=Columns(ra=None, dec=None))


def test_colour_stamps_are_the_same_with_workers(make_delivery: Callable[..., Delivery]) -> None:
    delivery = make_delivery(sources=5)
    for number, row in enumerate(delivery.rows):
        delivery.draw(row["id"], number, (40, 30, 3))
    delivery.write()
    folder = delivery.prepare().folder
    assert all(
        same(first, second) for first, second in zip(two_epochs(folder), two_epochs(folder, num_workers=2), strict=True)
    )


def test_a_batch_size_below_one_and_a_missing_survey_are_refused(small_survey: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, but got batch_size=0"):
        create_train_val_dataloaders(small_survey, batch_size=0)
    with pytest.raises(SurveyError, match="nowhere"):
        create_train_val_dataloaders(tmp_path / "nowhere")


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 200), batch_size=st.integers(1, 64), shuffle=st.booleans(), epoch=st.integers(0, 5))
def test_every_sample_comes_once_in_batches_that_are_nearly_equal(
    samples: int, batch_size: int, shuffle: bool, epoch: int
) -> None:
    batches = list(epoch_batches(samples, batch_size, seed=1, epoch=epoch, shuffle=shuffle))
    assert sorted(index for batch in batches for index in batch) == list(range(samples))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == len(SeededBatchSampler(samples, batch_size, seed=1, shuffle=shuffle))
    later = epoch_batches(samples, batch_size, seed=1, epoch=epoch + 1, shuffle=shuffle)
    assert len({batch.seed for batch in [*batches, *later]}) == 2 * len(batches)


def test_the_next_is_fetched_while_one_is_used() -> None:
    fetched = {number: threading.Event() for number in range(5)}

    def fetch(number: int) -> int:
        fetched[number].set()
        return 10 * number

    found = []
    for number in fetched_ahead(fetch, range(5)):
        assert number == 40 or fetched[number // 10 + 1].wait(10)
        found.append(number)
    assert found == [0, 10, 20, 30, 40]
    assert list(fetched_ahead(fetch, [])) == []


def test_what_cannot_be_fetched_is_said_where_it_would_have_come() -> None:
    batches = fetched_ahead(lambda number: 1 // number, [1, 0, 1])
    assert next(batches) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)
