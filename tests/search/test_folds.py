import copy
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from spacewarps.errors import ParamsError, SurveyError
from spacewarps.model.storage import pack_model
from spacewarps.search.executors.inline import InlineExecutor
from spacewarps.search.folds import Fold, deal_folds, hold_out
from spacewarps.search.journal import FolderJournal
from spacewarps.search.settings import SearchSettings, WarmStart
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.testing.data import bits, small_compute, small_folds, small_search
from spacewarps.training.prediction import score
from spacewarps.training.score import Epoch, Score, pooled_epochs
from tests.complaints import complaint


def test_scores_of_folds_are_pooled_by_their_samples() -> None:
    folds = [[Epoch(1, 1.0, Score(0.5, 2.0))], [Epoch(1, 3.0, Score(0.9, 1.0))]]
    (pooled,) = pooled_epochs(folds, [10, 30])
    assert pooled == Epoch(1, 2.5, Score(0.8, 1.25))
    assert pooled_epochs(folds[:1], [10]) == tuple(folds[0])


def test_a_fold_that_diverged_makes_the_pooled_loss_infinite() -> None:
    folds = [[Epoch(1, 1.0, Score(0.5, 2.0))], [Epoch(1, math.inf, Score(0.9, math.inf))]]
    assert pooled_epochs(folds, [1, 1])[0].validation.diverged


def test_there_is_a_network_for_each_fold_and_its_score_is_over_the_samples_of_all() -> None:
    folds = small_folds(3)
    result = small_search(folds)
    scores = [score(model, fold.validation, small_compute()) for model, fold in zip(result.models, folds, strict=True)]
    best = result.history.blocks[-1]
    assert best.score.accuracy == pytest.approx(sum(one.accuracy for one in scores) / 3, abs=1e-12)
    assert best.score.loss == pytest.approx(sum(one.loss for one in scores) / 3, abs=1e-12)
    assert [fold.epochs[-1].validation for fold in best.folds] == scores
    assert len({pack_model(model) for model in result.models}) == 3
    assert len({tuple(model.ks) for model in result.models}) == 1


def test_what_a_fold_gives_does_not_depend_on_the_others() -> None:
    folds, settings = small_folds(2), SearchSettings(max_layers=1, k_candidates=(3,), epochs_per_eval=2)
    both = small_search(folds, settings)
    for position, fold in enumerate(folds):
        alone = small_search([fold], settings)
        assert pack_model(alone.model) == pack_model(both.models[position])
        assert alone.history.blocks[0].folds[0] == both.history.blocks[0].folds[position]


def test_folds_that_do_not_go_together_are_named() -> None:
    one, two = small_folds(1), small_folds(2)
    with pytest.raises(ParamsError, match="needs at least one fold"):
        small_search([])
    with pytest.raises(ParamsError, match="made for 1 folds, but the search is given 2"):
        small_search(two, executor=InlineExecutor(one))
    of_other_features = copy.copy(two[1].validation)
    of_other_features.feature_names = []
    other = Fold(two[1].train, of_other_features)
    with pytest.raises(ParamsError, match="must have the same feature_names, in all folds"):
        small_search([two[0], other])


@pytest.mark.parametrize("trains", ["all", "block"])
def test_siblings_over_folds_are_resumed_from_half_a_journal(trains: Any, tmp_path: Path) -> None:
    folds = small_folds(2)
    settings = SearchSettings(
        max_layers=2, k_candidates=(2, 3), epochs_per_eval=2, trains=trains, warm_start=WarmStart("siblings")
    )
    with closing(FolderJournal(tmp_path)) as journal:
        whole = small_search(folds, settings, journal=journal)
        for file in sorted(tmp_path.glob("*.candidate"))[::2]:
            file.unlink()
        again = small_search(folds, settings, journal=journal)
    assert 0 < again.evaluated <= whole.evaluated == 4
    assert bits(again) == bits(whole) == bits(small_search(folds, settings))


def test_halving_works_over_folds() -> None:
    folds = small_folds(2)
    halved = small_search(folds, SearchSettings(max_layers=1, k_candidates=(2, 3, 4), epochs_per_eval=2, halving=1))
    finished = [result.finished for result in halved.history.steps[0].candidates]
    assert sorted(finished) == [False, True, True]
    assert {len(fold.epochs) for result in halved.history.steps[0].candidates for fold in result.folds} == {1, 2}


def test_folds_are_dealt_from_train_and_validation_by_source(prepared: PreparedSurvey) -> None:
    both, augmentation = Space_Galaxi(prepared, split=("train", "validation")), Augmentation()
    folds = deal_folds(both, 3, augmentation, seed=1)
    scored = [set(fold.validation.samples["id"]) for fold in folds]
    of_split = prepared.samples.groupby("split")["id"].agg(set)
    assert set.union(*scored) == of_split["train"] | of_split["validation"]
    assert sum(map(len, scored)) == len(of_split["train"] | of_split["validation"])
    for fold in folds:
        assert not set(fold.train.samples["source"]) & set(fold.validation.samples["source"])
        assert len(fold.train) + len(fold.validation) == sum(map(len, scored))
        assert (fold.train.augmentation, fold.validation.augmentation) == (augmentation, None)
        for part in fold:
            rows = prepared.samples.set_index("id").loc[part.samples["id"]]
            assert [part.classes[label] for label in part.labels.tolist()] == rows["label"].tolist()
            assert part.stamps.tobytes() == prepared.stamps[part.rows].tobytes()
            assert prepared.samples["id"].iloc[part.rows].tolist() == part.samples["id"].tolist()
    assert {fold.fingerprint() for fold in deal_folds(both, 3, augmentation, seed=2)}.isdisjoint(
        fold.fingerprint() for fold in folds
    )


def test_a_share_of_the_sources_is_held_out(prepared: PreparedSurvey) -> None:
    data = Space_Galaxi(prepared, split=("train", "validation"))
    fold = hold_out(data, 0.25, None, seed=1)
    train, validation = (set(part.samples["source"]) for part in fold)
    assert not train & validation
    assert train | validation == set(data.samples["source"])
    assert len(validation) == pytest.approx(0.25 * len(train | validation), abs=1.5)


def with_a_class_in_shared_sources(survey: PreparedSurvey, count: int) -> Space_Galaxi:
    """Return training and validation with a class whose rows stand in ``count`` sources of more stars each."""
    samples = survey.samples.copy()
    of_stars = samples[(samples["label"] == "STAR") & (samples["split"] != "test")]
    chosen = of_stars.drop_duplicates("source").index[:count]
    samples.loc[chosen, "label"] = "NOVA"
    mixed = PreparedSurvey(survey.stamps, samples, ["GALAXY", "NOVA", "QSO", "STAR"], survey.features)
    return Space_Galaxi(mixed, split=("train", "validation"))


def test_folds_that_would_learn_nothing_of_a_class_are_refused(draw_survey: Callable[..., PreparedSurvey]) -> None:
    survey = draw_survey(rows_of_a_source=3)
    one, some = (with_a_class_in_shared_sources(survey, count) for count in (1, 3))
    told = complaint(SurveyError, deal_folds, one, 2, None, seed=1)
    assert told.startswith("class 'NOVA' has no row to learn from in fold ")
    assert " of 2, as its rows share their sources with more rows of other classes; add sources of it or " in told
    assert "set `label_conflicts` to drop" in told
    # Every row is scored on in one fold or other, so a fold alone may score no row of a class.
    dealt = deal_folds(some, 8, None, seed=1)
    nova = some.classes.index("NOVA")
    assert {nova in fold.validation.labels for fold in dealt} == {True, False}
    assert all(nova in fold.train.labels for fold in dealt)


def test_what_is_held_out_and_what_is_left_must_both_have_every_class(
    draw_survey: Callable[..., PreparedSurvey],
) -> None:
    data = with_a_class_in_shared_sources(draw_survey(rows_of_a_source=3), 1)
    told = {complaint(SurveyError, hold_out, data, 0.5, None, seed).partition(",")[0] for seed in range(8)}
    assert told == {"class 'NOVA' has no row to learn from", "class 'NOVA' has no row to score on"}


def test_a_class_that_the_data_have_no_row_of_is_missed_in_no_fold(draw_survey: Callable[..., PreparedSurvey]) -> None:
    data = with_a_class_in_shared_sources(draw_survey(rows_of_a_source=3), 0)
    assert len(deal_folds(data, 2, None, seed=1)) == 2
    assert len(hold_out(data, 0.5, None, seed=1).train) > 0
