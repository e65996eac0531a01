"""The search and the final training as one estimator of scikit-learn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data

from spacewarps.errors import ParamsError, SpaceWarpsError, SurveyError
from spacewarps.model.settings import Configuration
from spacewarps.params import SearchParams
from spacewarps.search.executors.registry import make_executor
from spacewarps.search.final import train_final
from spacewarps.search.folds import Fold, deal_folds, hold_out
from spacewarps.search.progressive import search_folds
from spacewarps.search.strategies import make_strategy
from spacewarps.settings import SettingsError
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey
from spacewarps.training.compute import set_up_compute
from spacewarps.training.final import Part
from spacewarps.training.settings import ComputeSettings, FinalSettings, Optimiser

# The sections of `params.yaml` that an estimator has, and what it takes in place of their defaults: seconds to minutes
# for some hundred stamps, in this process.
_SECTIONS: dict[str, type[Any]] = {
    "augment": Augmentation,
    "compute": ComputeSettings,
    "model": Configuration,
    "optimiser": Optimiser,
    "search": SearchParams,
    "train": FinalSettings,
}
_OWN_DEFAULTS = {"search.executor": "inline", "train.orientations": 1}
# Where one part is held out, as many as a prepared survey's validation split has of training and validation.
_HELD_OUT = 0.25
_HIGHEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class _Settings:
    augment: Augmentation
    compute: ComputeSettings
    model: Configuration
    optimiser: Optimiser
    search: SearchParams
    train: FinalSettings


class SpaceWarpsClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Grows a network for stamps, and trains it to the end.

    The search and the final training are those of the pipeline, with fewer candidates and epochs by default.

    >>> classifier = SpaceWarpsClassifier(max_layers=1, k_candidates=(4,), random_state=0)
    >>> classifier.fit(stamps, classes, features=redshifts)  # doctest: +SKIP
    >>> classifier.predict_proba(stamps, features=redshifts)  # doctest: +SKIP

    Args:
        stamp_shape: ``(C, H, W)`` where ``X`` is flat: a row holds the pixels of a stamp, then its features. None
            where ``X`` is ``[N, C, H, W]``.
        max_layers: the largest number of blocks (``search.max_layers``).
        k_candidates: the numbers of channels on trial at each step (``search.k_candidates``).
        epochs_per_eval: the training of one candidate (``search.epochs_per_eval``).
        epochs: the training of a final network (``train.epochs``).
        folds: into how many parts the sources are dealt, for the search and for the final networks, of which the answer
            is the mean (``search.folds``, ``train.folds``); with 1, a quarter is held out.
        params: any other param of the sections ``augment``, ``compute``, ``model``, ``optimiser``, ``search`` and
            ``train``, by its name with a dot as ``dvc exp run -S`` has it, such as
            ``{"search.block_kinds": ["conv", "residual"]}``; of one that is named twice, this counts.
        random_state: decides every draw. The same number, data and settings give the same network.

    Attributes:
        classes_: the classes, sorted.
        network_: the final network; :func:`~spacewarps.model.storage.save_model` writes it.
        history_: every step of the search, every candidate.
        thresholds_: of prediction sets (:func:`~spacewarps.training.conformal.prediction_sets`), one for each class.
        n_features_in_: the columns of a flat ``X``.
    """

    def __init__(
        self,
        stamp_shape: tuple[int, int, int] | None = None,
        *,
        max_layers: int = 3,
        k_candidates: Sequence[int] = (8, 16),
        epochs_per_eval: int = 4,
        epochs: int = 15,
        folds: int = 3,
        params: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.stamp_shape = stamp_shape
        self.max_layers = max_layers
        self.k_candidates = k_candidates
        self.epochs_per_eval = epochs_per_eval
        self.epochs = epochs
        self.folds = folds
        self.params = params
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.stamp_shape is not None
        return tags

    def fit(
        self,
        X: ArrayLike,  # noqa: N803
        y: ArrayLike,
        features: ArrayLike | None = None,
        sources: ArrayLike | None = None,
    ) -> Self:
        """Grow a network for ``X`` and ``y``, and train it to the end.

        Args:
            X: stamps ``[N, C, H, W]`` in the survey's units, or flat rows.
            y: the class of each.
            features: ``[N, F]`` beside stamps that are not flat, NaN where there is no value.
            sources: the name of the source of each sample: samples of one source stay on one side of every split.
                Without it, each is a source of its own.

        Raises:
            ValueError: the arrays do not fit, or a class has too few sources for the folds.
            ParamsError: a setting is unknown, mistyped or out of range.
            SpaceWarpsError: the stamps are too small for ``max_layers``, the training diverged, or memory is short.
        """
        settings = self._settings()
        stamps, values = self._parts_of(X, features, is_new=True)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(stamps, labels)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least two classes, but y holds one class only: {self.classes_[0]}")
        seed = int(check_random_state(self.random_state).randint(_HIGHEST_SEED))
        data = _as_survey(stamps, values, labels, sources)
        compute = set_up_compute(replace(settings.compute, threads=settings.search.threads))
        try:
            folds = _folds(data, settings.search.folds, settings.augment, seed)
            parts = _parts(data, settings, seed)
        except SurveyError as error:
            raise ValueError(str(error)) from None
        with make_executor(settings.search.executor, folds, compute, settings.search) as executor:
            found = search_folds(
                folds,
                settings.search,
                strategy=make_strategy(settings.search.strategy, settings.search),
                configuration=settings.model,
                optimiser=settings.optimiser,
                compute=compute,
                seed=seed,
                executor=executor,
            )
        final = train_final(
            found.model,
            parts,
            settings.train,
            optimiser=settings.optimiser,
            compute=set_up_compute(settings.compute),
            seed=seed,
        )
        self.network_, self.history_, self.thresholds_ = final.network.cpu(), found.history, final.thresholds
        return self

    def predict_proba(self, X: ArrayLike, features: ArrayLike | None = None) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class for each sample, ``[N, classes]``; arguments as for :meth:`fit`.

        Raises:
            ValueError: the arrays are not of the shape that the network was made for.
            sklearn.exceptions.NotFittedError: there is no network yet.
        """
        check_is_fitted(self)
        stamps, values = self._parts_of(X, features, is_new=False)
        try:
            found: NDArray[np.float64] = self.network_.predict_proba(stamps, values)
        except SpaceWarpsError as error:
            raise ValueError(str(error)) from None
        return found

    def predict(self, X: ArrayLike, features: ArrayLike | None = None) -> NDArray[Any]:  # noqa: N803
        """Return the most probable class of each sample, ``[N]``; arguments and errors as above."""
        probabilities = self.predict_proba(X, features)
        found: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return found

    def _settings(self) -> _Settings:
        own = {
            "search.max_layers": self.max_layers,
            "search.k_candidates": self.k_candidates,
            "search.epochs_per_eval": self.epochs_per_eval,
            "search.folds": self.folds,
            "train.epochs": self.epochs,
            "train.folds": self.folds,
        }
        sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
        for name, value in (_OWN_DEFAULTS | own | dict(self.params or {})).items():
            section, *below = str(name).split(".")
            if section not in _SECTIONS or not below:
                raise ParamsError(
                    f"`params` has {name!r:.80}, but a param begins with one of "
                    f"{', '.join(f'{each}.' for each in _SECTIONS)}"
                )
            sections[section][".".join(below)] = value
        return _Settings(**{name: _made(name, values) for name, values in sections.items()})

    def _parts_of(
        self,
        X: ArrayLike,  # noqa: N803
        features: ArrayLike | None,
        *,
        is_new: bool,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return stamps, ``[N, C, H, W]``, and features, ``[N, F]``."""
        if self.stamp_shape is not None:
            if features is not None:
                raise ValueError("where X is flat, its last columns are the features; leave out `features`")
            rows = validate_data(self, X, reset=is_new, dtype="numeric", ensure_all_finite=False, estimator=self)
            X, features = self._cut(rows)  # noqa: N806
        # What float32 cannot hold is refused here.
        stamps = check_array(
            X, allow_nd=True, ensure_2d=False, dtype=[np.float32, np.uint8], input_name="X", estimator=self
        )
        if stamps.ndim != 4:
            raise ValueError(
                f"X must be stamps [N, C, H, W], or flat rows where stamp_shape is given, but is {list(stamps.shape)}"
            )
        values = np.empty((len(stamps), 0), np.float32) if features is None else features
        values = check_array(
            values, ensure_all_finite=False, ensure_min_features=0, dtype=np.float32, input_name="features"
        )
        check_consistent_length(stamps, values)
        return stamps, values

    def _cut(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the stamps and the features of flat ``rows``."""
        assert self.stamp_shape is not None
        pixels = int(np.prod(self.stamp_shape))
        if rows.shape[1] < pixels:
            raise ValueError(
                f"stamp_shape is {tuple(self.stamp_shape)}, so a row of X holds {pixels} pixels or more, "
                f"but X has {rows.shape[1]} columns"
            )
        return rows[:, :pixels].reshape(-1, *self.stamp_shape), rows[:, pixels:]


def _made(section: str, values: Mapping[str, Any]) -> Any:
    """Return the settings of a section; a name with a dot is that of a setting in a setting."""
    made = _checked(section, _SECTIONS[section], {name: value for name, value in values.items() if "." not in name})
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot:
            old = getattr(made, outer, None)
            if not hasattr(old, inner):
                raise ParamsError(f"`params` has {f'{section}.{name}'!r:.80}, which is not one of the settings")
            new = _checked(f"{section}.{outer}", replace, {inner: value}, old)
            made = _checked(section, replace, {outer: new}, made)
    return made


def _checked(place: str, make: Callable[..., Any], values: Mapping[str, Any], *settings: object) -> Any:
    try:
        return make(*settings, **values)
    except SettingsError as error:
        raise SettingsError([fault.below(place) for fault in error.faults]) from None


def _as_survey(
    stamps: NDArray[Any], values: NDArray[np.float32], labels: NDArray[Any], sources: ArrayLike | None
) -> Space_Galaxi:
    ids = [str(number) for number in range(len(stamps))]
    named = ids if sources is None else [str(source) for source in np.asarray(sources).tolist()]
    check_consistent_length(stamps, named)
    table = pd.DataFrame({"id": ids, "source": named, "split": "train", "label": [str(label) for label in labels]})
    features = [f"feature {number}" for number in range(values.shape[1])]
    columns = pd.DataFrame(values, columns=features)
    classes = [str(label) for label in np.unique(labels)]
    return Space_Galaxi(PreparedSurvey(stamps, pd.concat([table, columns], axis=1), classes, features))


def _folds(data: Space_Galaxi, folds: int, augmentation: Augmentation, seed: int) -> list[Fold]:
    if folds == 1:
        return [hold_out(data, _HELD_OUT, augmentation, seed)]
    return deal_folds(data, folds, augmentation, seed)


def _parts(data: Space_Galaxi, settings: _Settings, seed: int) -> list[Part]:
    if settings.train.data == "train_and_validation":
        return [Part(data.augmented(settings.augment), None)]
    folds = settings.train.folds if settings.train.data == "folds" else 1
    return [Part(*fold) for fold in _folds(data, folds, settings.augment, seed)]
