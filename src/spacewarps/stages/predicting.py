"""What the final network answers for a survey without classes, in tables; for the stage and for the command."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.prediction.answers import SET_PREFIX, rows_of
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.survey import parts_of, predict_parts, read_unlabelled
from spacewarps.prediction.table import written_table
from spacewarps.progress import progress_bar
from spacewarps.resources import processes_that_fit
from spacewarps.survey.audit import Audit
from spacewarps.survey.samples import as_seen
from spacewarps.training.compute import Compute
from spacewarps.writing import in_percent, write_csv


@dataclass(frozen=True)
class Asked:
    """What a final network is asked about.

    Args:
        model: the folder of the network.
        catalog: one catalogue, or a folder of them.
        images: the folder of stamps.
        id_column: the catalogue's name for the id.
    """

    model: Path
    catalog: Path
    images: Path
    id_column: str


class Answered(NamedTuple):
    """How many rows were predicted, how many were left out, and both in words."""

    samples: int
    left_out: int
    lines: list[str]


def answer(
    asked: Asked,
    compute: Compute,
    *,
    table: tuple[Path, Path],
    left_out: tuple[Path, Path],
    partial: Path,
    workers: int | None = None,
    cluster: str | None = None,
) -> Answered:
    """Write a table of what the network answers, and another of the rows that it could not be asked about.

    Args:
        asked: the network and the survey.
        compute: where, and in which precision.
        table: where to write the answers, and what that is called once it is in place.
        left_out: the same, of the rows with the reason.
        partial: a folder for what is done, so that an interrupted run goes on; it is removed at the end.
        workers: how many processes; without it as many as the cores allow.
        cluster: the address of a Ray cluster that does the work in place of processes.

    Raises:
        SpaceWarpsError: the model or the survey cannot be used, a process was lost, or the cluster cannot be used.
    """
    classifier, audit = Classifier.load(asked.model), Audit()
    # Nodes have working folders of their own.
    images = asked.images.absolute() if cluster else asked.images
    survey = read_unlabelled(
        asked.catalog,
        images,
        id_column=asked.id_column,
        classifier=classifier,
        audit=audit,
        progress_bar=progress_bar,
    )
    # One process is enough for an accelerator.
    most = 1 if compute.device.type == "cuda" else processes_that_fit(compute.threads)
    features = list(classifier.network.inputs.features)
    told = _Told(classifier.network.inputs.classes)
    with written_table(*table) as append, progress_bar("predict", len(survey.places)) as progress:
        parts = predict_parts(
            classifier,
            survey,
            compute=compute,
            workers=workers or most,
            cluster=(cluster, images) if cluster else None,
            partial=partial,
            progress=progress,
        )
        for rows, part in zip(parts_of(survey.rows), parts, strict=True):
            sound = part.faults == ""
            for key, fault in zip(rows["id"][~sound], part.faults[~sound], strict=True):
                audit.leave_out(str(fault), key)
            if sound.any():
                seen, ids = as_seen(rows.loc[sound, features]), rows["id"][sound].tolist()
                answers = rows_of(classifier, part.probabilities, seen, part.levels, ids)
                append(answers)
                told.count(answers)
    if not told.samples:
        raise SurveyError(f"{asked.images}: no stamp could be decoded; mend the files, or point at others")
    write_csv(left_out[0], _left_out(audit))
    number = sum(map(len, audit.left_out.values()))
    return Answered(told.samples, number, list(told.lines(table[1], classifier, left_out[1], audit)))


class _Told:
    """Counts what was predicted, for the last lines."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.samples = self._flagged = self._candidates = 0
        self._classes = dict.fromkeys(classes, 0)

    def count(self, table: pd.DataFrame) -> None:
        self.samples += len(table)
        self._flagged += int((table["unusual"] != "").sum())
        self._candidates += int(table.filter(like=SET_PREFIX).to_numpy().sum())
        for name, rows in table["class"].value_counts().items():
            self._classes[str(name)] += int(rows)

    def lines(self, out: Path, classifier: Classifier, left_out: Path, audit: Audit) -> Iterator[str]:
        found = ", ".join(f"{name} {rows}" for name, rows in self._classes.items())
        yield f"{out}: {self.samples} samples ({found})"
        if classifier.reference.thresholds is not None:
            yield (
                f"  prediction sets that hold the class in at least {in_percent(classifier.reference.coverage)} of "
                f"cases have {self._candidates / self.samples:.2f} classes on average"
            )
        if self._flagged:
            yield f"  {self._flagged} samples are unlike all that the network learned from: see the column `unusual`"
        if audit.left_out:
            reasons = ", ".join(f"{reason} ({len(rows)})" for reason, rows in sorted(audit.left_out.items()))
            yield f"  {sum(map(len, audit.left_out.values()))} rows are not in it, see {left_out}: {reasons}"


def _left_out(audit: Audit) -> pd.DataFrame:
    rows = [(row, reason) for reason, rows in sorted(audit.left_out.items()) for row in sorted(rows)]
    return pd.DataFrame(rows, columns=["row", "reason"])
