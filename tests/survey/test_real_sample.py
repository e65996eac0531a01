import csv
import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord, search_around_sky

from spacewarps.survey.loaders import create_train_val_dataloaders
from tests.survey.delivery import Delivery, Prepared

SAMPLE = os.environ.get("SPACEWARPS_SAMPLE")
pytestmark = pytest.mark.skipif(
    not SAMPLE, reason="SPACEWARPS_SAMPLE names no folder with labels.csv, redshifts.csv and images"
)


@pytest.fixture(scope="module")
def sample() -> Path:
    assert SAMPLE is not None
    return Path(SAMPLE)


@pytest.fixture(scope="module")
def prepared(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    target = tmp_path_factory.mktemp("prepared")
    return Delivery(target).prepare(target, catalog=sample, images=sample / "images", max_bad_fraction=0.05)


def test_every_row_is_kept_or_left_out_for_a_reason(prepared: Prepared) -> None:
    assert prepared.audit.rows_in == 1177
    assert prepared.left_out == {"no id": 1}
    assert prepared.audit.rows_kept == len(prepared.samples) == len(prepared.stamps) == 1176
    assert prepared.audit.details["images"]["without_row"] == {"count": 1, "names": ["nan.jpg"]}
    assert prepared.stamps.shape[1:] == (1, 75, 75)


def test_ids_keep_all_their_digits(prepared: Prepared, sample: Path) -> None:
    with (sample / "labels.csv").open(newline="", encoding="utf-8") as file:
        delivered = {row["id"] for row in csv.DictReader(file) if row["id"]}
    assert set(prepared.samples["id"]) == delivered
    assert len({key[:15] for key in delivered}) < len(delivered)


def test_repeated_observations_are_one_source_and_their_conflicts_are_reported(prepared: Prepared) -> None:
    assert prepared.samples["source"].nunique() == 811
    conflicts = prepared.audit.details["label_conflicts"]["sources"]
    assert conflicts
    assert all(len(set(labels.values())) > 1 for labels in conflicts.values())


def test_no_picture_stands_in_two_splits(prepared: Prepared) -> None:
    split_of: dict[bytes, str] = {}
    repeated = 0
    for stamp, split in zip(prepared.stamps, prepared.samples["split"], strict=True):
        repeated += stamp.tobytes() in split_of
        assert split_of.setdefault(stamp.tobytes(), split) == split
    assert repeated > 100


def test_no_pair_within_two_arcsec_stands_in_two_splits(prepared: Prepared) -> None:
    samples = prepared.samples
    sky = SkyCoord(samples["ra"].to_numpy() * units.deg, samples["dec"].to_numpy() * units.deg)
    one, other, _, _ = search_around_sky(sky, sky, 2 * units.arcsec)
    splits = samples["split"].to_numpy()
    assert len(one) > len(samples)
    assert (splits[one] == splits[other]).all()


def test_splits_follow_the_shares_in_every_class(prepared: Prepared) -> None:
    sources = prepared.samples.drop_duplicates("source").groupby(["label", "split"]).size().unstack()
    shares = sources.div(sources.sum(axis=1), axis=0)
    np.testing.assert_allclose(shares[["train", "validation", "test"]], [[0.6, 0.2, 0.2]] * 3, atol=0.02)


def test_loaders_open_the_catalogue_as_it_was_delivered(sample: Path) -> None:
    train, validation = create_train_val_dataloaders(sample, sample / "images", batch_size=64, seed=1)
    images, labels, features = next(iter(train))
    assert images.shape[1:] == (1, 75, 75)
    assert features.shape == (len(labels), 2)
    assert len(train.dataset) + len(validation.dataset) == 1176  # type: ignore[arg-type]
