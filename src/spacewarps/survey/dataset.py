"""The prepared survey as a data set: stamps stay packed, batches are gathered whole."""

import copy
import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from spacewarps.errors import SurveyError
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.columns import Columns
from spacewarps.survey.in_memory import prepare_in_memory
from spacewarps.survey.prepared import SPLITS, PreparedSurvey, load_prepared_survey
from spacewarps.survey.samples import Samples
from spacewarps.survey.split import class_of_sources, take_fraction

# While a survey is hashed: some megabytes of memory, whatever its size.
_STAMPS_AT_ONCE = 1024


class Batch(NamedTuple):
    """Samples side by side: ``images`` float32 ``[B, C, H, W]``, ``labels`` int64 ``[B]``, ``features`` ``[B, F]``."""

    images: Tensor
    labels: Tensor
    features: Tensor


class BatchIndices(list[int]):
    """The samples of one batch, and the seed of the draws that augment it.

    The seed travels with the batch, so it does not matter which process of a loader fetches it.
    """

    def __init__(self, indices: Sequence[int], seed: int) -> None:
        super().__init__(indices)
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchIndices, (list(self), self.seed)


class Space_Galaxi(Samples, Dataset[Batch]):  # noqa: N801 - the name that the brief gives it
    """Images, classes and features of a survey, one item for each sample.

    An item is ``(image, label, features)``: the stamp as float32 ``[C, H, W]`` in its own units, the number of its
    class, and its features as float32 ``[F]`` in catalogue units (NaN where there is none).

    >>> data = Space_Galaxi("data/prepared", split="train")  # doctest: +SKIP
    >>> image, label, features = data[0]  # doctest: +SKIP

    Args:
        survey: the folder of a prepared survey; or a catalogue (one file or a folder of them), with ``images``.
        images: the folder of stamps, where ``survey`` is a catalogue. The survey is then cleaned, grouped and packed
            in memory, and split into ``train`` and ``validation`` only.
        split: ``train``, ``validation`` or ``test``, or several of them; all samples without it.
        features: the feature columns, where ``survey`` is a catalogue.
        fraction: the share of each class's sources that is used.
        augmentation: applied to whole batches as they are fetched; none without it.
        validation_share: the share of the sources in ``validation``, where ``survey`` is a catalogue.
        seed: determines the split of a catalogue, and the choice of a fraction.
        columns: the catalogue's names for id, label and position, where ``survey`` is a catalogue.

    Raises:
        SurveyError: the survey cannot be used, or ``split`` holds no sample.
    """

    def __init__(
        self,
        survey: Path | str | PreparedSurvey,
        images: Path | str | None = None,
        *,
        split: str | Collection[str] | None = None,
        features: Sequence[str] = ("z", "z_err"),
        fraction: float = 1.0,
        augmentation: Augmentation | None = None,
        validation_share: float = 0.2,
        seed: int = 0,
        columns: Columns = Columns(),
    ) -> None:
        if not 0 < fraction <= 1:
            raise SurveyError(f"fraction must be above 0 and at most 1, but got fraction={fraction}")
        if isinstance(survey, PreparedSurvey):
            prepared = survey
        elif images is None:
            prepared = load_prepared_survey(Path(survey))
        else:
            prepared = prepare_in_memory(
                Path(survey), Path(images), columns, list(features), seed=seed, validation_share=validation_share
            )
        rows = _rows_of(prepared.samples, split, fraction, seed)
        samples = prepared.samples.iloc[rows].reset_index(drop=True)
        super().__init__(prepared.stamps, samples[prepared.features], rows, mask_channel=prepared.mask_channel)
        self.augmentation = augmentation
        self.classes = prepared.classes
        self.samples = samples
        number = {label: position for position, label in enumerate(self.classes)}
        self.labels = torch.tensor([number[label] for label in samples["label"]], dtype=torch.int64)

    def __getitem__(self, index: int) -> Batch:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        batch = self._fetch([index % len(self)], None)
        return Batch(batch.images[0], batch.labels[0], batch.features[0])

    def __getitems__(self, indices: list[int]) -> Batch | list[Batch]:
        """Return a whole batch for :class:`BatchIndices`, and a list of items for any other list of indices."""
        if isinstance(indices, BatchIndices):
            return self.batch(indices)
        batch = self._fetch(indices, None)
        return [Batch(*item) for item in zip(*batch, strict=True)]

    def batch(self, indices: BatchIndices) -> Batch:
        """Return the samples at ``indices`` as one batch, augmented with draws from its own seed."""
        return self._fetch(indices, torch.Generator().manual_seed(indices.seed))

    def subset(self, chosen: NDArray[np.bool_], augmentation: Augmentation | None = None) -> "Space_Galaxi":
        """Return the samples where ``chosen``, ``[N]``, is true, with an augmentation of their own; stamps are shared.

        Raises:
            SurveyError: there is none.
        """
        if not chosen.any():
            raise SurveyError("a part of a survey needs at least one sample, but none was chosen")
        part = copy.copy(self)
        part.rows = self.rows[chosen]
        part.samples = self.samples[chosen].reset_index(drop=True)
        part.labels = self.labels[torch.from_numpy(chosen)]
        part.features = self.features[torch.from_numpy(chosen)]
        part.augmentation = augmentation
        return part

    def augmented(self, augmentation: Augmentation | None) -> "Space_Galaxi":
        """Return the same samples with another augmentation; the stamps are shared."""
        other = copy.copy(self)
        other.augmentation = augmentation
        return other

    def without_augmentation(self) -> "Space_Galaxi":
        """Return the same samples as they are; the stamps are shared."""
        return self.augmented(None)

    def fingerprint(self) -> str:
        """Return a hash of all that a network can see of these samples, and of their order.

        Augmentation is no part of it. The stamps are read once, a part at a time (SHA-256).
        """
        names = [self.classes, self.feature_names, self.stamp_shape, str(self.packed.dtype), len(self)]
        # As the same pixels would be seen otherwise.
        names += ["mask channel"] * self.mask_channel
        found = hashlib.sha256(json.dumps(names).encode())
        found.update(self.labels.numpy().tobytes())
        found.update(self.features.numpy().tobytes())
        for start in range(0, len(self), _STAMPS_AT_ONCE):
            found.update(self.packed[self.rows[start : start + _STAMPS_AT_ONCE]].tobytes())
        return found.hexdigest()

    def _fetch(self, indices: Sequence[int], generator: torch.Generator | None) -> Batch:
        images, features = self.seen(indices)
        if self.augmentation is not None:
            images = self.augmentation(images, generator, mask_channel=self.mask_channel)
        return Batch(images, self.labels[torch.as_tensor(indices)], features)


def _rows_of(
    samples: pd.DataFrame, split: str | Collection[str] | None, fraction: float, seed: int
) -> NDArray[np.int64]:
    splits = SPLITS if split is None else [split] if isinstance(split, str) else split
    if not set(splits) <= set(SPLITS):
        raise SurveyError(f"split must be one of {', '.join(SPLITS)}, but got split={split!r}")
    chosen = samples["split"].isin(splits).to_numpy()
    if not chosen.any():
        raise SurveyError(f"the survey holds no sample of split={split!r}")
    if fraction < 1:
        part = samples[chosen]
        classes = class_of_sources(part["source"].tolist(), part["label"].tolist())
        chosen = chosen & samples["source"].isin(take_fraction(classes, fraction, seed)).to_numpy()
    return np.flatnonzero(chosen)
