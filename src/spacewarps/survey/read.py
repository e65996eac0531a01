"""A survey as delivered: catalogue rows with their stamps and features, whether anybody knows their classes or not."""

import difflib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import shown
from spacewarps.survey.images import StampError, StampShape
from spacewarps.survey.settings import SurveySettings
from spacewarps.survey.stamps import (
    Inspected,
    Progress,
    StampFolder,
    describe_misfits,
    inspect_stamps,
    most_common_shape,
)

ProgressBar = Callable[[str, int], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Survey:
    """What was delivered, and can be used.

    Args:
        rows: ``id``, ``label`` (where there are labels), ``ra``, ``dec``, and a column for each feature; sorted by id.
        files: the stamp's file of each row.
        digests: a hash of each of these files.
        shape: of every stamp.
        labels: all that the catalogue has, also of rows that cannot be used.
    """

    rows: pd.DataFrame
    files: list[Path]
    digests: list[str]
    shape: StampShape
    labels: frozenset[str]


def read_survey(
    catalog: Path,
    images: Path,
    settings: SurveySettings,
    audit: Audit,
    progress_bar: ProgressBar,
    *,
    shape: StampShape | None = None,
) -> Survey:
    """Read the catalogue, and find and inspect the stamps of its rows.

    Args:
        catalog: one CSV, or a folder of them.
        images: the folder of stamps, each named by its sample's id.
        settings: the columns, the features and their missing codes, and how much may be faulty.
        audit: what is left out, and why, goes there.
        progress_bar: opens a display for a piece of work, given its name and size.
        shape: what a network takes; without it, that of most stamps.

    Raises:
        SurveyError: the survey cannot be used, or too much of it is faulty.
    """
    columns, max_bad_fraction = settings.columns, settings.max_bad_fraction
    rows = read_catalogue(
        catalog,
        columns,
        settings.features,
        audit,
        missing_codes=settings.missing_codes,
        max_bad_fraction=max_bad_fraction,
    )
    if columns.ra is None:
        audit.notes.append(
            "the survey has no positions (`columns.ra` is null): repeats of a source are seen only where their "
            "stamps are the same bytes, and other repeats may stand in several splits"
        )
    audit.check_bad_fraction(audit.rows_in, max_bad_fraction, catalog)
    survey = _match_stamps(rows, StampFolder(images), audit, progress_bar, shape)
    audit.check_bad_fraction(audit.rows_in, max_bad_fraction, catalog)
    return survey


def _match_stamps(
    samples: pd.DataFrame, folder: StampFolder, audit: Audit, progress_bar: ProgressBar, wanted: StampShape | None
) -> Survey:
    """Return the samples that have a usable stamp."""
    found: dict[str, Path] = {}
    faults: dict[str, StampError] = {}
    for key in samples["id"]:
        try:
            found[key] = folder.find(key)
        except StampError as fault:
            faults[key] = fault
    astray = sorted(faults.keys() - folder.files.keys())
    if astray:
        pair, reason = _pair(astray[0], set(samples["id"]), folder), str(faults[astray[0]])
        audit.hints |= dict.fromkeys((str(faults[key]) for key in astray), pair)
        if not found:
            raise SurveyError(
                f"{folder.path}: none of {len(samples)} ids names a stamp ({reason}: {pair}); check `images` and "
                "`columns.id`"
            )
    with progress_bar("inspect stamps", len(found)) as progress:
        inspected = dict(zip(found, inspect_stamps(list(found.values()), progress), strict=True))
    shape = wanted or most_common_shape([*inspected.values(), *faults.values()])
    shapes = {stamp.shape for stamp in inspected.values() if isinstance(stamp, Inspected)}
    misfits = describe_misfits(shapes, shape, "the network takes" if wanted else "most have")
    for key, stamp in inspected.items():
        if isinstance(stamp, StampError):
            faults[key] = stamp
        elif stamp.shape in misfits:
            faults[key] = StampError(misfits[stamp.shape])
    for key in sorted(faults):
        audit.leave_out(str(faults[key]), key)

    ids = set(samples["id"])
    orphans = sorted(_as_text(name) for stem, names in folder.files.items() if stem not in ids for name in names)
    audit.details["images"] = {
        "files": sum(len(names) for names in folder.files.values()),
        "without_row": {"count": len(orphans), "names": orphans},
    }
    usable = samples[~samples["id"].isin(faults.keys())].reset_index(drop=True)
    stamps = [inspected[key] for key in usable["id"]]
    digests = [stamp.digest for stamp in stamps if isinstance(stamp, Inspected)]
    return Survey(usable, [found[key] for key in usable["id"]], digests, shape, frozenset(samples.get("label", ())))


def _pair(sample_id: str, ids: set[str], folder: StampFolder) -> str:
    """Say how an id without a stamp is written, and how the most similar file that no id names."""
    orphans = [stem for stem in islice(folder.files, 10_000) if stem not in ids]
    # No file has a longer name, and comparing takes time that grows with the square of it.
    start = sample_id[:255]
    near = max(orphans, key=lambda stem: difflib.SequenceMatcher(None, start, stem).ratio(), default=None)
    file = "" if near is None else f", file {shown(_as_text(folder.files[near][0]))}"
    return f"id {shown(sample_id)}{file}; an id is a file's name without its suffix"


def _as_text(file_name: str) -> str:
    """Return a name that need not be UTF-8 as text that can be written."""
    return os.fsencode(file_name).decode("utf-8", "backslashreplace")
