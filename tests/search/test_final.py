"""The training of the final network: in folds, where and as candidates are trained."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spacewarps.errors import ModelError
from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import Configuration
from spacewarps.model.storage import pack_model
from spacewarps.search.executors.base import Executor
from spacewarps.search.executors.processes import ProcessesExecutor
from spacewarps.search.final import FinalObserver, train_final
from spacewarps.search.journal import FolderJournal
from spacewarps.seeds import derive_seed
from spacewarps.testing.data import OPTIMISER, small_compute, small_folds
from spacewarps.training.compute import named_random_state
from spacewarps.training.final import Final, Part
from spacewarps.training.fit import fit_without_validation
from spacewarps.training.score import Score
from spacewarps.training.settings import FinalSettings
from spacewarps.training.untrained import new_start

FOLDS = small_folds(3)
SETTINGS = FinalSettings(epochs=3, orientations=1)


class Told(FinalObserver):
    def __init__(self, interrupted_after: int | None = None) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.samples = 0
        self.interrupted_after = interrupted_after

    def epoch_finished(self, network: int, epoch: int, train_loss: float, score: Score | None) -> None:
        assert score is not None
        assert train_loss > 0
        self.epochs.append((network, epoch))
        if len(self.epochs) == self.interrupted_after:
            raise KeyboardInterrupt

    def batch_trained(self, samples: int) -> None:
        self.samples += samples


@pytest.fixture(scope="module")
def found() -> ProgressiveModel:
    data = FOLDS[0].train
    with named_random_state(0, "initialisation"):
        model = ProgressiveModel(data.stamp_shape, data.feature_names, data.classes, Configuration(8, 2, 0.1))
        model.add_block(3)
        model.add_block(2)
    return model


def train(found: ProgressiveModel, settings: FinalSettings = SETTINGS, **options: Any) -> Final:
    arguments: dict[str, Any] = {"optimiser": OPTIMISER, "compute": small_compute(), "seed": 4} | options
    return train_final(found, [Part(*fold) for fold in FOLDS], settings, **arguments)


def bits(final: Final) -> list[object]:
    networks = [pack_model(network) for network in final.network.networks]
    return [*networks, final.network.temperature, final.score, *(member.history for member in final.members)]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_each_network_is_that_of_a_training_of_its_own(found: ProgressiveModel, average: float) -> None:
    before = pack_model(found)
    final = train(found, FinalSettings(epochs=3, orientations=1, average=average))
    assert pack_model(found) == before
    for number, (fold, member) in enumerate(zip(FOLDS, final.members, strict=True)):
        seed = derive_seed(4, "train", number)
        alone = new_start(found, fold.train, seed)
        losses = fit_without_validation(
            alone,
            fold.train,
            epochs=3,
            optimiser=OPTIMISER,
            compute=small_compute(),
            seed=seed,
            average=average,
            on_epoch=lambda _epoch, _loss: None,
            on_batch=lambda _samples: None,
        )
        assert pack_model(member.network) == pack_model(alone)
        assert member.losses == losses
        assert len(member.history) == 3
    assert len({pack_model(network) for network in final.network.networks}) == 3
    assert final.score is not None
    assert final.uncalibrated is not None
    assert final.score.loss < final.uncalibrated.loss


def test_where_the_networks_are_trained_changes_no_bit(found: ProgressiveModel) -> None:
    with ProcessesExecutor(FOLDS, small_compute(), workers=2, accelerators=0) as executor:
        told = Told()
        assert bits(train(found, executor=executor, observer=told)) == bits(train(found))
    assert sorted(told.epochs) == [(network, epoch) for network in range(3) for epoch in (1, 2, 3)]
    assert told.samples == 3 * sum(len(fold.train) for fold in FOLDS)


class Nobody(ProcessesExecutor):
    def submit(self, *_job: object) -> None:
        pytest.fail("there was nothing to train")


def test_the_journal_knows_what_was_trained_before(found: ProgressiveModel, tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path, every_epoch=True)
    first = bits(train(found, journal=journal))
    executor: Executor = Nobody(FOLDS, small_compute(), workers=2, accelerators=0)
    told = Told()
    assert bits(train(found, journal=journal, executor=executor, observer=told)) == first
    assert len(told.epochs) == 9
    assert told.samples == 3 * sum(len(fold.train) for fold in FOLDS)
    # Another seed is another network.
    with pytest.raises(pytest.fail.Exception):
        train(found, journal=journal, executor=executor, seed=5)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_training_that_was_interrupted_goes_on_to_the_same_bits(
    found: ProgressiveModel, tmp_path: Path, average: float
) -> None:
    settings = FinalSettings(epochs=3, orientations=1, average=average)
    journal = FolderJournal(tmp_path, every_epoch=True)
    for after in (1, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            train(found, settings, journal=journal, observer=Told(after))
    assert bits(train(found, settings, journal=journal)) == bits(train(found, settings))


def test_networks_that_diverged_or_have_no_block_are_refused_in_one_line(found: ProgressiveModel) -> None:
    with pytest.raises(ModelError, match=r"^the training diverged; lower `learning_rate`$"):
        train(found, optimiser=type(OPTIMISER)(8, 1e38))
    data = FOLDS[0].train
    empty = ProgressiveModel(data.stamp_shape, data.feature_names, data.classes)
    with pytest.raises(ModelError, match=r"^the network has no block, and so no architecture to train; search again$"):
        train(empty)


def test_one_network_is_trained_here_whatever_the_folds(found: ProgressiveModel) -> None:
    settings = FinalSettings(data="train_and_validation", epochs=1, orientations=1, calibration="none")
    parts = [Part(FOLDS[0].train, None)]
    final = train_final(found, parts, settings, optimiser=OPTIMISER, compute=small_compute(), seed=4)
    assert final.score is None
    assert len(final.members) == 1
    assert torch.equal(
        final.members[0].network.stamp_normaliser.sky, new_start(found, FOLDS[0].train, 1).stamp_normaliser.sky
    )
