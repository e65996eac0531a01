import numpy as np
import pandas as pd
import pytest

from spacewarps.evaluation.crossvalidation import OuterFold, summarise
from spacewarps.evaluation.settings import BootstrapSettings

CLASSES = ["GALAXY", "STAR"]
SETTINGS = BootstrapSettings(bootstrap_resamples=400)


def outer_fold(seed: int, fold: int, sources: list[str], of_label: list[float]) -> OuterFold:
    """Return a fold whose samples, all galaxies, were given these probabilities of being one."""
    predictions = pd.DataFrame(
        {"id": [f"{source}-{n}" for n, source in enumerate(sources)], "source": sources, "label": "GALAXY"}
    )
    predictions["p_GALAXY"] = of_label
    predictions["p_STAR"] = 1 - predictions["p_GALAXY"]
    return OuterFold(seed, fold, ["conv k=8"], 2.5, predictions)


def test_a_mean_is_over_all_answers_and_each_fold_has_its_line() -> None:
    folds = [outer_fold(1, 0, ["a", "b"], [0.9, 0.4]), outer_fold(1, 1, ["c", "d", "e", "f"], [0.8] * 4)]
    summary = summarise(folds, CLASSES, SETTINGS, seed=1)
    assert summary["accuracy"]["mean"] == pytest.approx(5 / 6)
    assert summary["log_loss"]["mean"] == pytest.approx(-np.mean(np.log([0.9, 0.4, *[0.8] * 4])))
    assert (summary["seconds"], summary["samples"], summary["sources"]) == (5.0, 6, 6)
    assert [line["accuracy"] for line in summary["folds"]] == [0.5, 1.0]
    assert [(line["seed"], line["fold"], line["samples"]) for line in summary["folds"]] == [(1, 0, 2), (1, 1, 4)]
    assert summary["folds"][0]["architecture"] == ["conv k=8"]
    assert summary["accuracy"]["low"] <= summary["accuracy"]["mean"] <= summary["accuracy"]["high"]


def test_repeats_tell_how_much_they_differ_and_do_not_narrow_the_interval() -> None:
    answers = [0.9, 0.4, 0.9, 0.9, 0.4, 0.9, 0.4, 0.9]
    sources = [str(number) for number in range(8)]
    once = summarise([outer_fold(1, 0, sources, answers)], CLASSES, SETTINGS, seed=1)
    twice = summarise([outer_fold(seed, 0, sources, answers) for seed in (1, 2)], CLASSES, SETTINGS, seed=1)
    assert once["accuracy"]["sd_seeds"] is None
    assert twice["accuracy"]["sd_seeds"] == 0
    for end in ("mean", "low", "high"):
        # The same sources with the same answers are no more evidence than one of them.
        assert twice["accuracy"][end] == pytest.approx(once["accuracy"][end])
    other = summarise(
        [outer_fold(1, 0, sources, answers), outer_fold(2, 0, sources, [0.9] * 8)], CLASSES, SETTINGS, seed=1
    )
    assert other["accuracy"]["sd_seeds"] == pytest.approx(np.std([5 / 8, 1], ddof=1))


def test_a_certain_mistake_has_a_finite_loss() -> None:
    summary = summarise([outer_fold(1, 0, ["a", "b"], [0.0, 1.0])], CLASSES, SETTINGS, seed=1)
    assert np.isfinite(summary["log_loss"]["mean"])
