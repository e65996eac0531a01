"""The search and the final training as scikit-learn's users drive them."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from spacewarps import SpaceWarpsClassifier
from spacewarps.errors import ParamsError
from tests.complaints import complaint

CLASSES = np.array(["galaxy", "quasar", "star"])
FAST: dict[str, Any] = {
    "max_layers": 1,
    "k_candidates": (3,),
    "epochs_per_eval": 1,
    "epochs": 1,
    "folds": 1,
    "random_state": 0,
}


def drawn(count: int = 60, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.str_]]:
    """Stamps of 12 pixels a side, a feature, and classes; each class has a width of its own."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count) % 3
    y, x = np.mgrid[:12, :12] - 5.5
    profile = np.exp(-(x**2 + y**2) / (2 * (1.0 + 1.2 * numbers[:, None, None]) ** 2))
    stamps = np.clip(profile * 150 + rng.normal(40, 5, (count, 12, 12)), 0, 255).astype(np.uint8)[:, None]
    features = rng.normal(numbers, 0.3)[:, None]
    features[::9] = np.nan
    return stamps, features, CLASSES[numbers]


def test_it_learns_from_stamps_and_features_and_repeats_itself_to_the_bit() -> None:
    stamps, features, classes = drawn()
    one = SpaceWarpsClassifier(max_layers=2, k_candidates=(4, 8), epochs=6, random_state=3)
    again = clone(one)
    one.fit(stamps, classes, features=features)
    assert one.classes_.tolist() == CLASSES.tolist()
    new_stamps, new_features, new_classes = drawn(30, seed=1)
    assert (one.predict(new_stamps, new_features) == new_classes).mean() > 0.8
    found = one.predict_proba(new_stamps, new_features)
    assert found.sum(axis=1) == pytest.approx(1)
    # The mean of three networks, as deep as the search found best.
    assert [len(member.trunk) for member in one.network_.networks] == [len(one.history_.blocks)] * 3
    assert one.thresholds_ is not None
    assert len(one.thresholds_) == 3
    # Flat rows are pixels, then features.
    again.set_params(stamp_shape=(1, 12, 12))
    rows = np.hstack([stamps.reshape(60, -1), features])
    again.fit(rows, classes)
    assert again.n_features_in_ == 145
    of_rows = again.predict_proba(np.hstack([new_stamps.reshape(30, -1), new_features]))
    np.testing.assert_array_equal(of_rows, found)


def test_params_have_their_names_of_params_yaml_and_are_checked_as_there() -> None:
    stamps, _, classes = drawn(24)
    params = {"search.block_kinds": ["residual"], "search.warm_start.jitter": 0.0, "train.data": "train"}
    found = SpaceWarpsClassifier(**FAST, params=params).fit(stamps, classes)
    assert [spec.kind for spec in found.network_.networks[0].specs] == ["residual"]
    for wrong, told in (
        ({"params": {"search.max_layer": 2}}, "search.max_layer is not one of the settings"),
        ({"params": {"search.warm_start.jitters": 2}}, "'search.warm_start.jitters', which is not one of the settings"),
        ({"params": {"search.warm_start.jitter": -1}}, "search.warm_start.jitter is -1, but"),
        ({"params": {"evaluate.confidence": 0.9}}, "but a param begins with one of augment., compute., model., "),
        ({"params": {"search": {}}}, "`params` has 'search', but a param begins with one of"),
        ({"max_layers": 0}, "search.max_layers is 0, but"),
        ({"folds": 1.5}, "search.folds is 1.5, but"),
    ):
        classifier = SpaceWarpsClassifier(**{**FAST, **wrong})
        assert told in complaint(ParamsError, classifier.fit, stamps, classes)


def test_samples_of_one_source_stay_on_one_side() -> None:
    stamps, _, classes = drawn(24)
    # Two sources of each class: more folds than that cannot be dealt, though there are samples enough.
    sources = [f"{name} {number % 2}" for number, name in enumerate(classes)]
    classifier = SpaceWarpsClassifier(**{**FAST, "folds": 3})
    told = complaint(ValueError, classifier.fit, stamps, classes, sources=sources)
    assert "class 'galaxy' has 2 source(s) to learn from, too few for 3 folds" in told
    classifier.set_params(folds=2).fit(stamps, classes, sources=sources)


def test_arrays_that_do_not_fit_are_refused_with_value_errors() -> None:
    stamps, features, classes = drawn(24)
    fitted = SpaceWarpsClassifier(**FAST).fit(stamps, classes, features)
    flat = SpaceWarpsClassifier((1, 12, 12), **FAST)
    for call, told in (
        (lambda: fitted.predict(stamps), "takes 1 features"),
        (lambda: fitted.predict(stamps[:, :, :8], features), r"takes stamps \[B, 1, 12, 12\]"),
        (lambda: fitted.fit(stamps[:, 0], classes), r"X must be stamps \[N, C, H, W\]"),
        (lambda: fitted.fit(stamps, classes[:5]), "inconsistent numbers of samples"),
        (lambda: fitted.fit(stamps, classes, features[:5]), "inconsistent numbers of samples"),
        (lambda: fitted.fit(stamps / [[[[np.nan]]]], classes), "X contains NaN"),
        (lambda: flat.fit(stamps.reshape(24, -1)[:, 1:], classes), "holds 144 pixels or more, but X has 143"),
        (lambda: flat.fit(stamps.reshape(24, -1), classes, features), "leave out `features`"),
    ):
        with pytest.raises(ValueError, match=told):
            call()


@pytest.mark.long
def test_scikit_learn_cross_validates_it() -> None:
    stamps, _, classes = drawn(36)
    scores = cross_val_score(SpaceWarpsClassifier(**FAST), stamps, classes, cv=2, error_score="raise")
    assert scores.shape == (2,)


class OfAnyRows(SpaceWarpsClassifier):
    """Repeats the columns of scikit-learn's small tables until they make a stamp."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A network of three channels that has seen each sample once.
        tags.classifier_tags.poor_score = True
        return tags

    def _cut(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        return super()._cut(np.tile(rows, (1, -(-16 // rows.shape[1]))))


@pytest.mark.long
@parametrize_with_checks([OfAnyRows((1, 4, 4), **FAST)])  # type: ignore[untyped-decorator]
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)
