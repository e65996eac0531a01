import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from spacewarps.errors import SurveyError
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import BatchIndices, Space_Galaxi
from spacewarps.survey.prepared import load_prepared_survey
from tests.complaints import complaint
from tests.survey.delivery import Delivery


def test_an_item_is_image_label_and_features_of_one_sample(small_survey: Path) -> None:
    data = Space_Galaxi(small_survey)
    table = pd.read_csv(small_survey / "samples.csv")
    stamps = np.load(small_survey / "stamps.npy")
    assert len(data) == 60
    assert data.classes == ["GALAXY", "QSO", "STAR"]
    assert data.feature_names == ["z", "z_err"]
    assert data.stamp_shape == (1, 12, 12)
    for row in (0, 1, 59, -1):
        image, label, features = data[row]
        assert image.dtype == features.dtype == torch.float32
        assert label.dtype == torch.int64
        assert (image.numpy() == stamps[row]).all()
        assert data.classes[int(label)] == table["label"].iloc[row]
        np.testing.assert_array_equal(features, table[["z", "z_err"]].iloc[row].to_numpy(dtype=np.float32))
    assert torch.isnan(data[0].features[1])


@pytest.mark.parametrize("index", [60, -61, 1000])
def test_an_index_out_of_range_ends_iteration(small_survey: Path, index: int) -> None:
    data = Space_Galaxi(small_survey)
    with pytest.raises(IndexError, match="out of range for 60 samples"):
        data[index]
    assert len(list(data)) == 60  # type: ignore[call-overload]


def test_splits_share_no_source_and_make_up_the_whole(small_survey: Path) -> None:
    parts = [Space_Galaxi(small_survey, split=split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [36, 12, 12]
    assert sum(len(set(part.samples["source"])) for part in parts) == 60
    assert len(set().union(*[set(part.samples["id"]) for part in parts])) == 60
    for part in parts:
        assert (torch.from_numpy(part.stamps).float() == torch.stack([item.images for item in part])).all()  # type: ignore[attr-defined]


def test_a_smaller_fraction_is_part_of_a_larger_one_and_keeps_every_class(small_survey: Path) -> None:
    ids = []
    for fraction, samples in ((0.01, 3), (0.25, 9), (0.5, 18), (1.0, 36)):
        data = Space_Galaxi(small_survey, split="train", fraction=fraction, seed=4)
        assert len(data) == samples
        assert torch.bincount(data.labels).tolist() == [samples // 3] * 3
        ids.append(set(data.samples["id"]))
    assert ids[0] < ids[1] < ids[2] < ids[3]


def test_a_batch_is_fetched_whole_and_has_the_samples_in_order(small_survey: Path) -> None:
    data = Space_Galaxi(small_survey, split="train")
    batch = data.__getitems__(BatchIndices([5, 0, 5], seed=1))
    assert isinstance(batch, tuple)
    assert [tuple(part.shape) for part in batch] == [(3, 1, 12, 12), (3,), (3, 2)]
    for row, index in enumerate([5, 0, 5]):
        for part, item in zip(batch, data[index], strict=True):
            torch.testing.assert_close(part[row], item, rtol=0, atol=0, equal_nan=True)


def test_a_batch_changes_neither_the_survey_nor_the_next_batch(small_survey: Path) -> None:
    data = Space_Galaxi(load_prepared_survey(small_survey, in_memory=True), augmentation=Augmentation())
    before = data.stamps.copy()
    first = data.batch(BatchIndices(range(60), seed=1)).images.clone()
    data.batch(BatchIndices(range(60), seed=2)).images.mul_(0)
    assert (data.stamps == before).all()
    assert (data.batch(BatchIndices(range(60), seed=1)).images == first).all()


def test_without_augmentation_gives_the_stamps_as_they_are(small_survey: Path) -> None:
    data = Space_Galaxi(small_survey, augmentation=Augmentation())
    plain = data.without_augmentation()
    assert not torch.equal(data[0].images, plain[0].images)
    assert (plain[0].images.numpy() == data.stamps[0]).all()
    assert data.augmentation is not None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_data_loader_collates_items(small_survey: Path, workers: int) -> None:
    data = Space_Galaxi(small_survey)
    batches = list(DataLoader(data, batch_size=8, num_workers=workers))
    assert [len(batch.labels) for batch in batches] == [8] * 7 + [4]
    assert (torch.cat([batch.images for batch in batches]).numpy() == data.stamps).all()
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels)
    np.testing.assert_array_equal(torch.cat([batch.features for batch in batches]), data.features)


def test_a_survey_without_features_gives_empty_ones(delivery: Delivery) -> None:
    delivery.write()
    data = Space_Galaxi(delivery.prepare(features=[]).folder)
    assert data.feature_names == []
    assert data[0].features.shape == (0,)
    assert next(iter(DataLoader(data, batch_size=4))).features.shape == (4, 0)


def test_a_catalogue_beside_an_image_folder_is_split_in_two(delivery: Delivery) -> None:
    delivery.write()
    options: dict[str, Any] = {"features": ["z"], "validation_share": 0.3, "seed": 5}
    whole, train, validation = (
        Space_Galaxi(delivery.catalog, delivery.images, split=split, **options)
        for split in (None, "train", "validation")
    )
    assert (len(whole), len(train), len(validation)) == (30, 21, 9)
    assert not set(train.samples["source"]) & set(validation.samples["source"])
    assert whole.feature_names == ["z"]
    assert "no sample of split='test'" in complaint(
        SurveyError, Space_Galaxi, delivery.catalog, delivery.images, split="test", **options
    )
    assert sorted(path.name for path in delivery.folder.iterdir()) == ["catalog", "images"]


def test_features_beyond_single_precision_become_infinite_without_a_warning(
    delivery: Delivery, recwarn: pytest.WarningsRecorder
) -> None:
    delivery.rows[0] |= {"z": "1e300", "z_err": "-1e300"}
    delivery.write()
    data = Space_Galaxi(delivery.prepare().folder)
    assert data[0].features.tolist() == [np.inf, -np.inf]
    assert not recwarn.list


def test_numbers_come_back_to_the_last_bit(delivery: Delivery) -> None:
    values = np.random.default_rng(1).uniform(0, 360, 30) / 3
    for row, value in zip(delivery.rows, values, strict=True):
        row |= {"ra": repr(float(value)), "z": repr(float(value) / 7)}
    delivery.write()
    samples = load_prepared_survey(delivery.prepare().folder).samples
    assert samples["ra"].tolist() == values.tolist()
    assert samples["z"].tolist() == (values / 7).tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "tset"}, "split must be one of train, validation, test, but got split='tset'"),
        ({"fraction": 0}, "fraction must be above 0 and at most 1, but got fraction=0"),
        ({"fraction": 1.5}, "fraction=1.5"),
        ({"fraction": float("nan")}, "fraction=nan"),
        ({"images": "nowhere", "validation_share": 1.0}, "validation_share must lie between 0 and 1, but got 1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(small_survey: Path, options: dict[str, Any], words: str) -> None:
    assert words in complaint(SurveyError, Space_Galaxi, small_survey, **options)


def test_a_catalogue_without_images_and_a_missing_folder_are_refused(delivery: Delivery, tmp_path: Path) -> None:
    assert "needs images" in complaint(SurveyError, Space_Galaxi, delivery.write())
    assert "nowhere" in complaint(SurveyError, Space_Galaxi, tmp_path / "nowhere")


def test_another_process_maps_the_stamps_instead_of_getting_a_copy(small_survey: Path) -> None:
    data = Space_Galaxi(small_survey, split="validation")
    sent = pickle.dumps(data)
    received = pickle.loads(sent)
    assert isinstance(received.packed, np.memmap)
    assert (received.stamps == data.stamps).all()
    assert data.packed[:20].tobytes() not in sent
    in_memory = Space_Galaxi(load_prepared_survey(small_survey, in_memory=True), split="validation")
    assert (pickle.loads(pickle.dumps(in_memory)).stamps == data.stamps).all()
