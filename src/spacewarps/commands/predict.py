"""What the final network answers for another survey, in a table."""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.files import outputs
from spacewarps.prediction.answers import SET_PREFIX, rows_of
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.survey import parts_of, predict_parts, read_unlabelled
from spacewarps.prediction.table import check_name, written_table
from spacewarps.progress import progress_bar, say
from spacewarps.resources import processes_that_fit
from spacewarps.survey.audit import Audit
from spacewarps.survey.samples import as_seen
from spacewarps.training.compute import set_up_compute
from spacewarps.training.settings import ComputeSettings
from spacewarps.writing import write_csv


def run(options: argparse.Namespace, settings: ComputeSettings) -> None:
    """Write the table that ``options`` name, and beside it the rows that could not be predicted, with the reason.

    Args:
        options: of the command line.
        settings: what to compute with.

    Raises:
        SpaceWarpsError: the model or the survey cannot be used, or a process was lost.
    """
    out: Path = options.out
    check_name(out)
    compute = set_up_compute(settings)
    classifier, audit = Classifier.load(options.model), Audit()
    survey = read_unlabelled(
        options.catalog,
        options.images,
        id_column=options.id,
        classifier=classifier,
        audit=audit,
        progress_bar=progress_bar,
    )
    # One process is enough for an accelerator.
    most = 1 if compute.device.type == "cuda" else processes_that_fit(compute.threads)
    partial = out.with_name(f"{out.name}.partial")
    left_out = out.with_name(f"{out.stem}.left_out.csv")
    features = list(classifier.network.inputs.features)
    told = _Told(classifier.network.inputs.classes)
    with outputs() as placed:
        with written_table(placed.file(out), out) as append, progress_bar("predict", len(survey.files)) as progress:
            parts = predict_parts(
                classifier,
                survey,
                compute=compute,
                workers=options.workers or most,
                partial=partial,
                progress=progress,
            )
            for rows, part in zip(parts_of(survey.rows), parts, strict=True):
                sound = part.faults == ""
                for key, fault in zip(rows["id"][~sound], part.faults[~sound], strict=True):
                    audit.leave_out(str(fault), key)
                if sound.any():
                    seen, ids = as_seen(rows.loc[sound, features]), rows["id"][sound].tolist()
                    table = rows_of(classifier, part.probabilities, seen, part.levels, ids)
                    append(table)
                    told.count(table)
        if not told.samples:
            raise SurveyError(f"{options.images}: no stamp could be decoded; mend the files, or point at others")
        write_csv(placed.file(left_out), _left_out(audit))
    shutil.rmtree(partial)
    for line in told.lines(out, classifier, left_out, audit):
        say(line)


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
                f"  prediction sets that hold the class in at least {classifier.reference.coverage:.0%} of cases have "
                f"{self._candidates / self.samples:.2f} classes on average"
            )
        if self._flagged:
            yield f"  {self._flagged} samples are unlike all that the network learned from: see the column `unusual`"
        if audit.left_out:
            reasons = ", ".join(f"{reason} ({len(rows)})" for reason, rows in sorted(audit.left_out.items()))
            yield f"  {sum(map(len, audit.left_out.values()))} rows are not in it, see {left_out}: {reasons}"


def _left_out(audit: Audit) -> pd.DataFrame:
    rows = [(row, reason) for reason, rows in sorted(audit.left_out.items()) for row in sorted(rows)]
    return pd.DataFrame(rows, columns=["row", "reason"])
