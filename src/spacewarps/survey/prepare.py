"""From a survey as delivered to stamps and samples that a network can learn from."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.reading import sha256_of
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import Columns, shown
from spacewarps.survey.images import StampError, StampShape
from spacewarps.survey.labels import note_lost_classes, sort_classes
from spacewarps.survey.prepared import SAMPLES_FILE, STAMPS_FILE, SURVEY_FILE
from spacewarps.survey.sources import group_sources
from spacewarps.survey.split import class_of_sources, split_sources, take_fraction
from spacewarps.survey.stamps import (
    Inspected,
    Progress,
    StampFolder,
    describe_misfits,
    inspect_stamps,
    most_common_shape,
    pack_stamps,
)
from spacewarps.writing import write_json, write_text

AUDIT_FILE = "audit.json"

ProgressBar = Callable[[str, int], AbstractContextManager[Progress]]


def prepare_survey(
    target: Path,
    *,
    catalog: Path,
    images: Path,
    columns: Columns,
    features: list[str],
    group_radius_arcsec: float,
    label_conflicts: str,
    fraction: float,
    shares: Mapping[str, float],
    max_bad_fraction: float,
    seed: int,
    progress_bar: ProgressBar,
    missing_codes: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Audit:
    """Clean, group, split and pack a survey into the folder ``target``.

    Writes ``stamps.npy`` (``[samples, channels, height, width]``), ``samples.csv`` (one row for each stamp, in the
    same order), ``survey.json`` (classes, features, the shape of a stamp, the hashes of both) and ``audit.json``
    (every row and image that was left out, and why). Samples are in the order of their ids, so the order of the
    catalogue has no influence.

    Args:
        target: an existing folder.
        catalog: one CSV, or a folder of them.
        images: the folder of stamps, each named by its sample's id.
        columns: the catalogue's names for id, label and position.
        features: the columns that the network sees beside the stamp.
        group_radius_arcsec: rows closer than this are one source.
        label_conflicts: ``keep`` or ``drop`` the sources whose rows disagree about the class.
        fraction: the share of each class's sources that is used.
        shares: the share of the sources in each split.
        max_bad_fraction: the largest share of rows that may be left out because of faults, and of a feature's values
            that may be no numbers.
        seed: the seed of the run.
        progress_bar: opens a display for a piece of work, given its name and size.
        missing_codes: for each feature that has some, the values that mean that there is none.

    Raises:
        SurveyError: the survey cannot be used, or too much of it is faulty.
    """
    audit = Audit()
    samples = read_catalogue(
        catalog, columns, features, audit, missing_codes=missing_codes, max_bad_fraction=max_bad_fraction
    )
    if columns.ra is None:
        audit.notes.append(
            "the survey has no positions (data.columns.ra is null): repeats of a source are seen only where their "
            "stamps are the same bytes, and other repeats may stand in several splits"
        )
    labels = set(samples["label"])
    _check_bad_fraction(audit, audit.rows_in, max_bad_fraction, catalog)
    samples, files, digests, shape = _match_stamps(samples, StampFolder(images), audit, progress_bar)
    _check_bad_fraction(audit, audit.rows_in, max_bad_fraction, catalog)
    samples["source"] = _name_sources(samples, group_radius_arcsec, digests)
    samples = _settle_conflicts(samples, label_conflicts, audit)
    samples = _take_fraction(samples, fraction, seed, audit)

    chosen = [files[key] for key in samples["id"]]
    damage = Audit()
    with progress_bar("decode stamps", len(chosen)) as progress:
        faults = pack_stamps(chosen, shape, target / STAMPS_FILE, progress)
    samples = _without_faulty(samples, faults, damage)
    # Only the stamps of the fraction were decoded, so they are what the damaged ones are a share of.
    _check_bad_fraction(damage, len(chosen), max_bad_fraction, catalog)
    for reason, rows in damage.left_out.items():
        audit.left_out.setdefault(reason, []).extend(rows)
    _check_bad_fraction(audit, audit.rows_in, max_bad_fraction, catalog)
    audit.rows_kept = len(samples)

    classes = sort_classes(samples["label"])
    note_lost_classes(labels, classes, audit)
    if len(classes) < 2:
        raise SurveyError(
            f"{catalog}: a classifier needs two classes, but the {len(samples)} usable rows hold "
            f"{repr(classes[0]) + ' alone' if classes else 'none'}"
        )
    split_of = split_sources(class_of_sources(samples["source"].tolist(), samples["label"].tolist()), shares, seed)
    samples["split"] = samples["source"].map(split_of)
    audit.details["splits"] = {split: _describe_split(samples[samples["split"] == split], classes) for split in shares}
    _check_every_class_is_in_every_split(audit.details["splits"], catalog)

    write_text(
        target / SAMPLES_FILE, samples[["id", "source", "split", "label", "ra", "dec", *features]].to_csv(index=False)
    )
    hashes = {name: sha256_of(target / name) for name in (SAMPLES_FILE, STAMPS_FILE)}
    write_json(target / SURVEY_FILE, {**_describe_survey(samples, classes, features, shape), "sha256": hashes})
    write_json(target / AUDIT_FILE, audit.as_json())
    return audit


def _match_stamps(
    samples: pd.DataFrame, folder: StampFolder, audit: Audit, progress_bar: ProgressBar
) -> tuple[pd.DataFrame, dict[str, Path], list[str], StampShape]:
    """Return the samples that have a usable stamp, the stamps' files by id, their digests, and a stamp's shape."""
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
                f"{folder.path}: none of {len(samples)} ids names a stamp ({reason}: {pair}); check data.images and "
                "data.columns.id"
            )
    with progress_bar("inspect stamps", len(found)) as progress:
        inspected = dict(zip(found, inspect_stamps(list(found.values()), progress), strict=True))
    shape = most_common_shape([*inspected.values(), *faults.values()])
    misfits = describe_misfits({stamp.shape for stamp in inspected.values() if isinstance(stamp, Inspected)}, shape)
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
    return usable, found, [stamp.digest for stamp in stamps if isinstance(stamp, Inspected)], shape


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


def _name_sources(samples: pd.DataFrame, radius_arcsec: float, digests: list[str]) -> pd.Series:
    """Return the source of each sample, named by the first of its ids."""
    numbers = group_sources(samples["ra"].to_numpy(), samples["dec"].to_numpy(), radius_arcsec, digests)
    return samples["id"].groupby(numbers).transform("min")


def _settle_conflicts(samples: pd.DataFrame, label_conflicts: str, audit: Audit) -> pd.DataFrame:
    conflicting = samples.groupby("source")["label"].transform("nunique") > 1
    audit.details["label_conflicts"] = {
        "treatment": label_conflicts,
        "sources": {
            str(source): dict(zip(rows["id"], rows["label"], strict=True))
            for source, rows in samples[conflicting].groupby("source")
        },
    }
    if label_conflicts == "keep":
        return samples
    return _leave_out(samples, conflicting, "label conflict", audit)


def _take_fraction(samples: pd.DataFrame, fraction: float, seed: int, audit: Audit) -> pd.DataFrame:
    classes = class_of_sources(samples["source"].tolist(), samples["label"].tolist())
    taken = take_fraction(classes, fraction, seed)
    return _leave_out(samples, ~samples["source"].isin(taken), "outside the fraction", audit)


def _without_faulty(samples: pd.DataFrame, faults: list[StampError | None], audit: Audit) -> pd.DataFrame:
    for key, fault in zip(samples["id"], faults, strict=True):
        if fault is not None:
            audit.leave_out(str(fault), key)
    sound = np.array([fault is None for fault in faults], dtype=bool)
    return samples[sound].reset_index(drop=True)


def _leave_out(samples: pd.DataFrame, which: "pd.Series[bool]", reason: str, audit: Audit) -> pd.DataFrame:
    for key in samples["id"][which]:
        audit.leave_out(reason, key)
    return samples[~which].reset_index(drop=True)


def _check_bad_fraction(audit: Audit, rows: int, max_bad_fraction: float, catalog: Path) -> None:
    """Raise if more than ``max_bad_fraction`` of ``rows`` are faulty, or all of them."""
    bad = audit.bad_rows
    if bad <= max_bad_fraction * rows and (bad < rows or bad == 0):
        return
    reason, faulty = audit.most_common_fault()
    hint = f": {audit.hints[reason]}" if reason in audit.hints else ""
    limit = f", more than data.max_bad_fraction={max_bad_fraction:g} allows" if bad > max_bad_fraction * rows else ""
    raise SurveyError(
        f"{catalog}: {bad} of {rows} rows cannot be used{limit}; most often: {reason} ({len(faulty)} rows, first "
        f"{min(faulty, key=_in_order_of_numbers):.200}{hint}); mend them or raise data.max_bad_fraction"
    )


def _in_order_of_numbers(place: str) -> str:
    """Return what puts line 9 of a file before line 10."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(12), place)


def _check_every_class_is_in_every_split(splits: Mapping[str, Mapping[str, Any]], catalog: Path) -> None:
    for split, description in splits.items():
        for label, rows in description["classes"].items():
            if rows == 0:
                raise SurveyError(
                    f"{catalog}: class {label!r:.80} has no row in the {split} split, as its rows share their sources "
                    "with more rows of other classes; add sources of it or leave it out, or set data.label_conflicts "
                    "to drop"
                )


def _describe_split(samples: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    counts = Counter(samples["label"])
    return {
        "samples": len(samples),
        "sources": samples["source"].nunique(),
        "classes": {label: counts[label] for label in classes},
    }


def _describe_survey(
    samples: pd.DataFrame, classes: list[str], features: list[str], shape: StampShape
) -> dict[str, Any]:
    return {
        "classes": classes,
        "features": features,
        "stamp": {
            "channels": shape.channels,
            "height": shape.height,
            "width": shape.width,
            "dtype": shape.dtype,
        },
        "samples": len(samples),
        "sources": samples["source"].nunique(),
    }
