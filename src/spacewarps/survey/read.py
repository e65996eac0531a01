"""A survey as delivered: catalogue rows with their stamps and features, whether anybody knows their classes or not."""

import difflib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.settings import part_of
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import STAMP_INDEX, read_catalogue
from spacewarps.survey.centred_stamps import CentredStamp
from spacewarps.survey.columns import shown
from spacewarps.survey.images import StampError, StampShape
from spacewarps.survey.large_images import Cutout, LargeImages
from spacewarps.survey.settings import StampSettings, SurveySettings
from spacewarps.survey.stamp_arrays import Row, StampArray, holds_an_array
from spacewarps.survey.stamps import (
    JOINTS,
    Files,
    Inspected,
    Progress,
    StampFolder,
    Whereabouts,
    describe_misfits,
    fitted_shape,
    inspect_stamps,
    most_common_shape,
)

ProgressBar = Callable[[str, int], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Survey:
    """What was delivered, and can be used.

    Args:
        rows: ``id``, ``label`` (where there are labels), ``ra``, ``dec``, and a column for each feature; sorted by id.
        places: where the stamp of each row is: its file, the file of each of its bands, or what holds several stamps.
        digests: a hash of each stamp as delivered.
        shape: of every stamp.
        labels: all that the catalogue has, also of rows that cannot be used.
    """

    rows: pd.DataFrame
    places: list[Whereabouts]
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
        catalog: one catalogue, or a folder of them.
        images: the folder of stamps, each named by its sample's id; or a file with an array of all of them.
        settings: the columns, the features and their missing codes, how stamps are read, and how much may be faulty.
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
        stamp_index=settings.stamp_index,
    )
    if columns.ra is None:
        audit.notes.append(
            "the survey has no positions (`columns.ra` is null): repeats of a source are seen only where their "
            "stamps are the same bytes, and other repeats may stand in several splits"
        )
    audit.check_bad_fraction(audit.rows_in, max_bad_fraction, catalog)
    how = part_of(StampSettings, settings)
    found, faults = _find_stamps(rows, images, settings, audit)
    survey = _inspect(rows, found, faults, how, audit, progress_bar, shape)
    audit.check_bad_fraction(audit.rows_in, max_bad_fraction, catalog)
    return survey


Found = tuple[dict[str, Whereabouts], dict[str, StampError]]


def _find_stamps(samples: pd.DataFrame, images: Path, settings: SurveySettings, audit: Audit) -> Found:
    """Return where the stamp of each sample is, and why others have none."""
    if settings.cutouts:
        return _find_cutouts(samples, LargeImages(images, part_of(StampSettings, settings)), audit)
    if holds_an_array(images):
        if settings.stamp_centre == "position":
            raise SurveyError(f"{images}: an array of stamps has no WCS; set `stamp_centre` to middle")
        return _find_rows(samples, StampArray(images, part_of(StampSettings, settings), settings.columns.id), audit)
    if settings.stamp_index is not None:
        raise SurveyError(
            f"{images}: `stamp_index` names the rows of an array, but `images` is no file with one; point it at the "
            "file, or set `stamp_index` to null"
        )
    files, faults = _find_files(samples, StampFolder(images, settings.stamp_bands), audit)
    if settings.stamp_centre == "middle":
        return dict(files), faults
    positions = zip(samples["id"], samples["ra"].tolist(), samples["dec"].tolist(), strict=True)
    return {key: CentredStamp(files[key], ra, dec) for key, ra, dec in positions if key in files}, faults


def _find_cutouts(samples: pd.DataFrame, images: LargeImages, audit: Audit) -> Found:
    places = images.find(samples["ra"].to_numpy(np.float64), samples["dec"].to_numpy(np.float64))
    found, faults = _parted(dict(zip(samples["id"], places, strict=True)))
    if not found:
        raise SurveyError(
            f"{images.path}: none of {len(samples)} positions lies on an image; check `columns.ra` and `columns.dec`, "
            "which are degrees, and `images`"
        )
    count = Counter(place.image.name for place in found.values() if isinstance(place, Cutout))
    audit.details["images"] = {
        "files": images.files,
        "cut_from": {_as_text(image.name): count[image.name] for image in images.images},
    }
    if images.ties:
        audit.notes.append(
            f"{images.ties} times a position lies equally far from the edge of several images; the first by name has "
            "it, so take away what is no picture of the sky (weights, masks)"
        )
    if images.others:
        audit.notes.append(f"called like none of the bands in `stamp_bands`, so not read: {images.others} files")
    return found, faults


def _find_rows(samples: pd.DataFrame, array: StampArray, audit: Audit) -> Found:
    indices = samples.get(STAMP_INDEX, samples["id"])
    found, faults = _parted(array.find(samples["id"].tolist(), indices.tolist()))
    for key, text in zip(samples["id"], indices, strict=True):
        if key in faults and array.ids is None:
            audit.hints.setdefault(str(faults[key]), f"index {shown(text)}")
    if not found:
        reason = Counter(map(str, faults.values())).most_common(1)
        what = f" (most often: {reason[0][0]})" if reason else ""
        raise SurveyError(f"{array.file}: none of {len(samples)} samples has a row of its own in the array{what}")
    rows = {place.number for place in found.values() if isinstance(place, Row)}
    audit.details["images"] = {"rows": array.rows, "without_row": {"count": array.rows - len(rows)}}
    return found, faults


def _parted(places: Mapping[str, Whereabouts | StampError]) -> Found:
    """Return the places, and the faults that stand among them."""
    faults = {key: place for key, place in places.items() if isinstance(place, StampError)}
    return {key: place for key, place in places.items() if not isinstance(place, StampError)}, faults


def _find_files(
    samples: pd.DataFrame, folder: StampFolder, audit: Audit
) -> tuple[dict[str, Files], dict[str, StampError]]:
    found: dict[str, Files] = {}
    faults: dict[str, StampError] = {}
    for key in samples["id"]:
        try:
            found[key] = folder.find(key)
        except StampError as fault:
            faults[key] = fault
    astray = sorted(key for key in faults if not folder.files.keys() & set(folder.stems_of(key)))
    if astray:
        pair, reason = _pair(astray[0], set(samples["id"]), folder), str(faults[astray[0]])
        audit.hints |= dict.fromkeys((str(faults[key]) for key in astray), pair)
        if not found:
            raise SurveyError(
                f"{folder.path}: none of {len(samples)} ids names a stamp ({reason}: {pair}); check `images` and "
                "`columns.id`"
            )
    named = {stem for key in samples["id"] for stem in folder.stems_of(key)}
    orphans = sorted(_as_text(name) for stem, names in folder.files.items() if stem not in named for name in names)
    audit.details["images"] = {
        "files": sum(len(names) for names in folder.files.values()),
        "without_row": {"count": len(orphans), "names": orphans},
    }
    return found, faults


def _inspect(
    samples: pd.DataFrame,
    found: Mapping[str, Whereabouts],
    faults: dict[str, StampError],
    how: StampSettings,
    audit: Audit,
    progress_bar: ProgressBar,
    wanted: StampShape | None,
) -> Survey:
    """Return the samples that have a usable stamp."""
    with progress_bar("inspect stamps", len(found)) as progress:
        delivered = dict(zip(found, inspect_stamps(list(found.values()), how, progress), strict=True))
    inspected = {
        key: replace(stamp, shape=fitted_shape(stamp.shape, how)) if isinstance(stamp, Inspected) else stamp
        for key, stamp in delivered.items()
    }
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

    if how.stamp_size is not None and not how.cutouts:
        usable_shapes = [
            stamp.shape for key, stamp in delivered.items() if key not in faults and isinstance(stamp, Inspected)
        ]
        _tell_fitting(usable_shapes, how.stamp_size, audit)
    if how.needs_positions:
        _tell_placed({key: stamp for key, stamp in inspected.items() if key not in faults}, how, audit)
    usable = samples[~samples["id"].isin(faults.keys())].reset_index(drop=True)
    stamps = [inspected[key] for key in usable["id"]]
    digests = [stamp.digest for stamp in stamps if isinstance(stamp, Inspected)]
    return Survey(usable, [found[key] for key in usable["id"]], digests, shape, frozenset(samples.get("label", ())))


def _tell_fitting(shapes: list[StampShape], size: int, audit: Audit) -> None:
    """Say how many stamps were cropped and padded to ``size``, and from which sizes."""
    sizes = Counter((shape.width, shape.height) for shape in shapes)
    cropped = sum(count for sides, count in sizes.items() if max(sides) > size)
    padded = sum(count for sides, count in sizes.items() if min(sides) < size)
    audit.details["images"]["fitted"] = {
        "stamp_size": size,
        "cropped": cropped,
        "padded": padded,
        "sizes": {f"{width} x {height}": count for (width, height), count in sorted(sizes.items())},
    }
    for count, what in ((cropped, "cropped"), (padded, "padded with the median of each channel")):
        if count:
            audit.notes.append(f"{count} of {len(shapes)} stamps were {what} to {size} pixels a side (`stamp_size`)")


def _tell_placed(stamps: Mapping[str, Inspected | StampError], how: StampSettings, audit: Audit) -> None:
    """Say how many stamps around a position reach beyond the edge of what was delivered, and how far that is off."""
    sound = {key: stamp for key, stamp in stamps.items() if isinstance(stamp, Inspected)}
    beyond = {key: stamp.beyond for key, stamp in sound.items() if stamp.beyond}
    audit.details["images"]["beyond_the_edge"] = {
        "stamps": len(beyond),
        "pixels": sum(beyond.values()),
        "pixels_of": beyond,
    }
    if beyond:
        what = "are masked" if how.cutouts else "take the median of each channel"
        audit.notes.append(
            f"{len(beyond)} of {len(sound)} stamps reach beyond the edge of their image, by up to "
            f"{max(beyond.values())} pixels, which {what}"
        )
    if not how.cutouts:
        moved = [stamp.moved for stamp in sound.values() if stamp.moved]
        audit.details["images"]["off_the_middle"] = {"stamps": len(moved), "most": max(moved, default=0)}


def _pair(sample_id: str, ids: set[str], folder: StampFolder) -> str:
    """Say how an id without a stamp is written, and how the most similar file that no id names."""
    orphans = [stem for stem in islice(folder.files, 10_000) if stem not in ids]
    # No file has a longer name, and comparing takes time that grows with the square of it.
    start = sample_id[:255]
    near = max(orphans, key=lambda stem: difflib.SequenceMatcher(None, start, stem).ratio(), default=None)
    file = "" if near is None else f", file {shown(_as_text(folder.files[near][0]))}"
    if near is not None and near.startswith(sample_id) and near[len(sample_id) :][:1] in JOINTS:
        return f"id {shown(sample_id)}{file}; if each band has a file of its own, name the bands in `stamp_bands`"
    return f"id {shown(sample_id)}{file}; an id is a file's name without its suffix"


def _as_text(file_name: str) -> str:
    """Return a name that need not be UTF-8 as text that can be written."""
    return os.fsencode(file_name).decode("utf-8", "backslashreplace")
