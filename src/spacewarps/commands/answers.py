"""What a network answered for each sample of a test split: read from the table of ``evaluate``, or asked anew."""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.evaluation.losses import sample_losses
from spacewarps.formulas import table_from_text

# A test split of millions of samples.
MAX_TABLE_BYTES = 1 << 30
_SAMPLE = ["id", "source", "label"]
_COLUMNS = [*_SAMPLE, "predicted"]
_PROBABILITY = "p_"
# Tables of before have no such column.
_UNUSUAL = "unusual"
# As far as rounding may take a sum of probabilities from 1.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Answers:
    """The probabilities that a network gave to the samples of a test split.

    Args:
        samples: ``id``, ``source`` and ``label`` of each sample, sorted by id.
        labels: the number of each sample's class, ``[N]``.
        probabilities: ``[N, classes]``.
    """

    samples: pd.DataFrame
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, samples: pd.DataFrame, classes: Sequence[str], probabilities: NDArray[np.float64]) -> "Answers":
        """Return the answers for ``samples`` in any order; each of their labels is one of ``classes``."""
        order = np.argsort(samples["id"].to_numpy(dtype=str), kind="stable")
        number = {name: position for position, name in enumerate(classes)}
        ordered = samples[_SAMPLE].iloc[order].reset_index(drop=True)
        labels = np.array([number[label] for label in ordered["label"]], dtype=np.int64)
        return cls(ordered, labels, probabilities[order])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sources(self) -> NDArray[np.str_]:
        """The source of each sample."""
        return self.samples["source"].to_numpy(dtype=str)

    @property
    def right(self) -> NDArray[np.float64]:
        """Whether each sample was classified right, 1 or 0."""
        right: NDArray[np.float64] = (self.probabilities.argmax(axis=1) == self.labels).astype(np.float64)
        return right

    @property
    def losses(self) -> NDArray[np.float64]:
        """The cross-entropy of each sample in nats; their mean is the log loss that ``evaluate`` reports."""
        return sample_losses(self.labels, self.probabilities)

    def fingerprint(self) -> str:
        """Return a hash of which samples they are, of which sources and classes; the answers are no part of it."""
        return hashlib.sha256(self.samples.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def read_answers(content: bytes) -> Answers:
    """Return what ``reports/report/predictions.csv`` holds.

    Raises:
        ValueError: it is damaged or of another shape; the message is one line.
    """
    try:
        table = table_from_text(pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False))
        header = [name for name in table.columns if name != _UNUSUAL]
        names = header[len(_COLUMNS) :]
        if header[: len(_COLUMNS)] != _COLUMNS or not all(name.startswith(_PROBABILITY) for name in names):
            raise ValueError(f"the columns should be {','.join(_COLUMNS)},p_..., but are {','.join(header):.80}")
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("rows are longer than the header")
        probabilities = table[names].astype(np.float64).to_numpy()
    except (ValueError, csv.Error, RecursionError) as error:
        # Pandas spreads its messages over several lines.
        raise ValueError(f"{' '.join(str(error).split()):.200}") from None
    classes = [name.removeprefix(_PROBABILITY) for name in names]
    _check(table, classes, probabilities)
    return Answers.of(table, classes, probabilities)


def _check(table: pd.DataFrame, classes: Sequence[str], probabilities: NDArray[Any]) -> None:
    if table.empty or len(classes) < 2:
        raise ValueError("it holds no answers" if table.empty else "it has fewer than two classes")
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise ValueError(f"the id {twice.iloc[0]!r:.80} appears twice")
    strange = table["label"][~table["label"].isin(classes)]
    if len(strange):
        raise ValueError(f"the label {strange.iloc[0]!r:.80} is none of the classes")
    # What is no number is not above 0 either.
    sound = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < _ROUNDING)
    if not sound.all():
        raise ValueError(f"the probabilities of {table['id'].iloc[int((~sound).argmax())]!r:.80} do not add up to 1")
