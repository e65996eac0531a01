from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacewarps.baselines.networks import vgg_blocks
from spacewarps.baselines.settings import BaselineSettings
from spacewarps.errors import ModelError
from spacewarps.evaluation.comparison import Baseline
from spacewarps.model.settings import Configuration
from spacewarps.params import load_params
from spacewarps.stages import baselines as stage
from spacewarps.stages.baselines import Baselines
from spacewarps.stages.context import Stage
from spacewarps.stages.dependencies import Dependencies
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.survey.settings import Shares
from spacewarps.training.compute import Compute
from spacewarps.training.untrained import new_network
from tests.conftest import save_prepared

ROOT = Path(__file__).parents[2]
ALL = list(asdict(BaselineSettings()))
QUICK = {"epochs": 2, "orientations": 1}

Make = Callable[..., Baselines]


@pytest.fixture
def make(
    prepared_folder: Path,
    test_data: Space_Galaxi,
    compute: Compute,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/prepared").symlink_to(prepared_folder)

    def make(*asked: str, test: Space_Galaxi = test_data, **train: Any) -> Baselines:
        own = replace(
            params,
            search=replace(params.search, executor="inline"),
            train=replace(params.train, **{"data": "folds", "folds": 2, **QUICK, **train}),
            evaluate=replace(params.evaluate, baselines=BaselineSettings(**{name: name in asked for name in ALL})),
        )
        found = new_network(test, vgg_blocks(1), Configuration(), seed=1)
        return Baselines(Stage("evaluate", own, Dependencies.of("evaluate", own)), found, test, compute)

    return make


def test_each_answers_for_each_sample_and_says_how_long_it_took(
    make: Make, test_data: Space_Galaxi, capsys: pytest.CaptureFixture[str]
) -> None:
    baselines = make(*ALL)
    found = list(baselines.trained())
    assert [baseline.name for baseline in found] == ALL == list(baselines.seconds)
    for baseline in found:
        assert baseline.probabilities.shape == (len(test_data), len(test_data.classes))
        assert np.allclose(baseline.probabilities.sum(axis=1), 1, atol=1e-5)
    said = capsys.readouterr().out
    assert all(f"  {baseline.title}: accuracy " in said for baseline in found)


@pytest.mark.parametrize("data", ["train", "train_and_validation"])
def test_each_way_of_the_final_training_will_do(make: Make, data: str) -> None:
    calibration = "none" if data == "train_and_validation" else "temperature"
    names = ("features_alone", "features_network", "vgg")
    found = list(make(*names, data=data, calibration=calibration).trained())
    assert [baseline.name for baseline in found] == list(names)


def test_a_baseline_is_the_same_whatever_others_there_are(make: Make) -> None:
    def answers(*asked: str) -> dict[str, Baseline]:
        return {baseline.name: baseline for baseline in make(*asked).trained()}

    alone, beside = answers("features_network"), answers("features_alone", "features_network", "vgg")
    assert np.array_equal(alone["features_network"].probabilities, beside["features_network"].probabilities)


def test_networks_of_blocks_are_found_in_the_journal(make: Make, tmp_path: Path) -> None:
    (first,), journal = list(make("vgg").trained()), tmp_path / ".spacewarps/journal"
    entries = sorted(path.name for path in journal.rglob("*") if path.is_file())
    assert entries
    (second,) = list(make("vgg").trained())
    assert np.array_equal(first.probabilities, second.probabilities)
    assert sorted(path.name for path in journal.rglob("*") if path.is_file()) == entries


def test_without_features_there_are_only_those_on_stamps(
    make: Make, draw_survey: Callable[..., PreparedSurvey], tmp_path: Path
) -> None:
    (tmp_path / "data/prepared").unlink()
    survey = draw_survey(features=())
    (tmp_path / "data/prepared").mkdir()
    save_prepared(survey, tmp_path / "data/prepared")
    found = list(make(*ALL, test=Space_Galaxi(survey, split="test")).trained())
    assert [baseline.name for baseline in found] == ["features_and_shapes", "found_anew", "vgg", "resnet"]
    assert found[0].title == "gradient boosting on measured shapes"


def test_one_that_diverges_is_left_out_and_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise ModelError("the training diverged; lower `learning_rate`")

    monkeypatch.setattr(stage, "run_training", diverge)
    baselines = make("features_alone", "vgg", "features_network")
    assert [baseline.name for baseline in baselines.trained()] == ["features_alone", "features_network"]
    assert baselines.row_split(Shares(0.6, 0.2, 0.2)) is None
    said = capsys.readouterr().out
    assert "  a VGG-like network of 1 block: not compared, as the training diverged; lower `learning_rate`" in said
    assert "  a split that ignores sources: not tried, as the training diverged" in said


def test_a_split_by_rows_shows_sources_that_were_learned_from(make: Make, prepared_folder: Path) -> None:
    rows = Space_Galaxi(prepared_folder)
    split = make().row_split(Shares(0.6, 0.2, 0.2))
    assert split is not None
    assert len(split.right) == pytest.approx(0.2 * len(rows), abs=3)
    # Two rows show a source: its other one is learned from four times in five.
    assert 0.6 < split.seen.mean() < 1
