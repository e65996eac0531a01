"""From a survey as delivered to stamps and samples that a network can learn from."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.reading import sha256_of
from spacewarps.settings import part_of
from spacewarps.survey.audit import AUDIT_FILE, Audit
from spacewarps.survey.images import StampError, StampShape
from spacewarps.survey.labels import note_lost_classes, sort_classes
from spacewarps.survey.masks import packed_shape
from spacewarps.survey.prepared import SAMPLES_FILE, STAMPS_FILE, SURVEY_FILE
from spacewarps.survey.read import ProgressBar, read_survey
from spacewarps.survey.settings import StampSettings, SurveySettings
from spacewarps.survey.sources import group_sources
from spacewarps.survey.split import class_of_sources, split_sources, take_fraction
from spacewarps.survey.stamps import pack_stamps
from spacewarps.writing import write_json, write_text


def prepare_survey(
    target: Path, *, catalog: Path, images: Path, settings: SurveySettings, seed: int, progress_bar: ProgressBar
) -> Audit:
    """Clean, group, split and pack a survey into the folder ``target``.

    Writes ``stamps.npy`` (``[samples, channels, height, width]``), ``samples.csv`` (one row for each stamp, in the
    same order), ``survey.json`` (classes, features, the shape of a stamp, whether its last channel is the mask, the
    hashes of both) and ``audit.json`` (every row and image that was left out, and why). Samples are in the order of
    their ids, so the order of the catalogue has no influence.

    Args:
        target: an existing folder.
        catalog: one catalogue, or a folder of them.
        images: the folder of stamps, each named by its sample's id; or a file with an array of all of them.
        settings: how it is read, cleaned and split.
        seed: the seed of the run.
        progress_bar: opens a display for a piece of work, given its name and size.

    Raises:
        SurveyError: the survey cannot be used, or too much of it is faulty.
    """
    if settings.columns.label is None:
        raise SurveyError("a survey to learn from needs labels; set `columns.label` to the name of their column")
    audit = Audit()
    survey = read_survey(catalog, images, settings, audit, progress_bar)
    samples = survey.rows
    places = dict(zip(samples["id"], survey.places, strict=True))
    samples["source"] = _name_sources(samples, settings.group_radius_arcsec, survey.digests)
    samples = _settle_conflicts(samples, settings.label_conflicts, audit)
    samples = _take_fraction(samples, settings.fraction, seed, audit)

    chosen = [places[key] for key in samples["id"]]
    damage = Audit()
    with progress_bar("decode stamps", len(chosen)) as progress:
        decoded = pack_stamps(chosen, survey.shape, part_of(StampSettings, settings), target / STAMPS_FILE, progress)
    _tell_masked(samples["id"], decoded, audit)
    if settings.mask_channel:
        _tell_mask_channel(survey.shape, audit)
    samples = _without_faulty(samples, decoded, damage)
    # Only the stamps of the fraction were decoded, so they are what the damaged ones are a share of.
    damage.check_bad_fraction(len(chosen), settings.max_bad_fraction, catalog)
    for reason, rows in damage.left_out.items():
        audit.left_out.setdefault(reason, []).extend(rows)
    audit.check_bad_fraction(audit.rows_in, settings.max_bad_fraction, catalog)
    audit.rows_kept = len(samples)

    classes = sort_classes(samples["label"])
    note_lost_classes(survey.labels, classes, audit)
    if len(classes) < 2:
        raise SurveyError(
            f"{catalog}: a classifier needs two classes, but the {len(samples)} usable rows hold "
            f"{repr(classes[0]) + ' alone' if classes else 'none'}"
        )
    shares = settings.split.by_split()
    split_of = split_sources(class_of_sources(samples["source"].tolist(), samples["label"].tolist()), shares, seed)
    samples["split"] = samples["source"].map(split_of)
    audit.details["splits"] = {split: _describe_split(samples[samples["split"] == split], classes) for split in shares}
    _check_every_class_is_in_every_split(audit.details["splits"], catalog)

    write_text(
        target / SAMPLES_FILE,
        samples[["id", "source", "split", "label", "ra", "dec", *settings.features]].to_csv(index=False),
    )
    hashes = {name: sha256_of(target / name) for name in (SAMPLES_FILE, STAMPS_FILE)}
    write_json(target / SURVEY_FILE, {**_describe_survey(samples, classes, settings, survey.shape), "sha256": hashes})
    write_json(target / AUDIT_FILE, audit.as_json())
    return audit


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


def _tell_masked(ids: Iterable[str], decoded: list[StampError | int], audit: Audit) -> None:
    """Say which stamps have masked pixels, and how many; without any, nothing."""
    masked = {key: found for key, found in zip(ids, decoded, strict=True) if isinstance(found, int) and found}
    if not masked:
        return
    pixels = sum(masked.values())
    audit.details["images"]["masked"] = {"stamps": len(masked), "pixels": pixels, "pixels_of": masked}
    audit.notes.append(
        f"masked or not finite: {pixels} pixels of {len(masked)} stamps, at most {max(masked.values())} in one; they "
        "take the median of the others in their channel"
    )


def _tell_mask_channel(shape: StampShape, audit: Audit) -> None:
    audit.details["images"]["mask_channel"] = shape.channels
    audit.notes.append(
        f"the last of {shape.channels + 1} channels is the mask (`masks`): the share of the others in which nobody "
        "measured a pixel"
    )


def _without_faulty(samples: pd.DataFrame, decoded: list[StampError | int], audit: Audit) -> pd.DataFrame:
    for key, found in zip(samples["id"], decoded, strict=True):
        if isinstance(found, StampError):
            audit.leave_out(str(found), key)
    sound = np.array([isinstance(found, int) for found in decoded], dtype=bool)
    return samples[sound].reset_index(drop=True)


def _leave_out(samples: pd.DataFrame, which: "pd.Series[bool]", reason: str, audit: Audit) -> pd.DataFrame:
    for key in samples["id"][which]:
        audit.leave_out(reason, key)
    return samples[~which].reset_index(drop=True)


def _check_every_class_is_in_every_split(splits: Mapping[str, Mapping[str, Any]], catalog: Path) -> None:
    for split, description in splits.items():
        for label, rows in description["classes"].items():
            if rows == 0:
                raise SurveyError(
                    f"{catalog}: class {label!r:.80} has no row in the {split} split, as its rows share their sources "
                    "with more rows of other classes; add sources of it or leave it out, or set `label_conflicts` "
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
    samples: pd.DataFrame, classes: list[str], settings: SurveySettings, shape: StampShape
) -> dict[str, Any]:
    channels, height, width = packed_shape(shape, settings)
    return {
        "classes": classes,
        "features": list(settings.features),
        "stamp": {
            "channels": channels,
            "height": height,
            "width": width,
            "dtype": shape.dtype,
        },
        **({"mask_channel": True} if settings.mask_channel else {}),
        "samples": len(samples),
        "sources": samples["source"].nunique(),
    }
