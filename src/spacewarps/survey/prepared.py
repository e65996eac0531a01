"""The prepared survey on disk, and how it is opened: what was damaged or altered since is refused."""

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from spacewarps.errors import SurveyError
from spacewarps.reading import check_file, read_json, sha256_of

STAMPS_FILE = "stamps.npy"
SAMPLES_FILE = "samples.csv"
SURVEY_FILE = "survey.json"
SPLITS = ("train", "validation", "test")
_TEXT_COLUMNS = ("id", "source", "split", "label")
_POSITIONS = ("ra", "dec")
_PIXELS = (np.dtype("uint8"), np.dtype("float32"))
# Some megabytes of memory, whatever the survey's size.
_STAMPS_AT_ONCE = 1024

_Name = Annotated[str, Field(min_length=1)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class PreparedSurvey:
    """What the prepare stage wrote: ``stamps`` ``[N, C, H, W]`` beside the sample table of ``N`` rows.

    With ``mask_channel``, the last of the channels is the mask (:mod:`spacewarps.survey.masks`).
    """

    stamps: NDArray[Any]
    samples: pd.DataFrame
    classes: list[str]
    features: list[str]
    mask_channel: bool = False


def load_stamps(path: Path) -> NDArray[Any]:
    """Return the stamps in ``path``, ``[N, C, H, W]``, mapped from disk."""
    return np.lib.format.open_memmap(path, mode="r")


class _Description(BaseModel):
    """What ``survey.json`` must say; what else stands there is for people."""

    model_config = ConfigDict(strict=True)

    classes: Annotated[list[_Name], Field(min_length=2)]
    features: list[_Name]
    # Absent where there is none.
    mask_channel: bool = False
    # Surveys that other programs wrote carry none.
    sha256: dict[str, _Digest] = {}

    @model_validator(mode="after")
    def _names_differ(self) -> "_Description":
        for what, names in (("classes", self.classes), ("features", self.features)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} must differ from each other")
        return self


def load_prepared_survey(folder: Path, *, in_memory: bool = False) -> PreparedSurvey:
    """Open a prepared survey; its stamps are mapped from disk unless ``in_memory`` is set.

    Every file is read once, a part at a time, to see that it is what was prepared (SHA-256).

    Raises:
        SurveyError: a file is missing, damaged or altered, or the files do not belong together.
    """
    if folder.is_file():
        raise SurveyError(f"{folder}: a file, not the folder of a prepared survey; a catalogue needs images beside it")
    try:
        for name in (SURVEY_FILE, SAMPLES_FILE, STAMPS_FILE):
            check_file(folder / name)
        description = read_json(folder / SURVEY_FILE, _Description)
        _check_hashes(folder, description)
        samples = _read_samples(folder / SAMPLES_FILE, description.features)
        stamps = _open_stamps(folder / STAMPS_FILE)
        _check_samples(samples, description.classes)
        _check_stamps(stamps, len(samples), mask_channel=description.mask_channel)
    except FileNotFoundError as error:
        raise SurveyError(f"{error.filename}: no such file; {folder} is not a prepared survey") from None
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        # Pandas spreads its messages over several lines.
        what = f"{' '.join(str(error).split()):.200}"
        raise SurveyError(f"{folder}: not a prepared survey ({what}); prepare it again") from None
    return PreparedSurvey(
        np.array(stamps) if in_memory else stamps,
        samples,
        description.classes,
        description.features,
        description.mask_channel,
    )


def _check_hashes(folder: Path, description: _Description) -> None:
    for name in (SAMPLES_FILE, STAMPS_FILE):
        if description.sha256 and sha256_of(folder / name) != description.sha256.get(name):
            raise SurveyError(f"{folder / name}: altered since it was prepared; prepare it again")


def _read_samples(path: Path, features: list[str]) -> pd.DataFrame:
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    expected = [*_TEXT_COLUMNS, *_POSITIONS, *features]
    if header != expected:
        found, wanted = ",".join(header), ",".join(expected)
        raise ValueError(f"{SAMPLES_FILE} should have the columns {wanted:.80}, but has {found:.80}")
    numbers = {name: [""] for name in (*_POSITIONS, *features)}
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(_TEXT_COLUMNS, str) | dict.fromkeys(numbers, np.float64),
        keep_default_na=False,
        na_values=numbers,
    )[[*_TEXT_COLUMNS, *numbers]]


def _check_samples(samples: pd.DataFrame, classes: list[str]) -> None:
    for column, allowed in (("split", SPLITS), ("label", classes)):
        strange = samples[column][~samples[column].isin(allowed)]
        if len(strange):
            raise ValueError(f"{SAMPLES_FILE}: {column} {strange.iloc[0]!r:.80} is none of {', '.join(allowed):.80}")
    twice = samples["id"][samples["id"].duplicated()]
    if len(twice):
        raise ValueError(f"{SAMPLES_FILE}: the id {twice.iloc[0]!r:.80} appears twice")
    astray = samples.drop_duplicates(["source", "split"])["source"]
    if astray.duplicated().any():
        raise ValueError(f"{SAMPLES_FILE}: source {astray[astray.duplicated()].iloc[0]!r:.80} stands in two splits")
    # A survey that was prepared in memory has no test split.
    for split in ("train", "validation", *(["test"] if "test" in set(samples["split"]) else [])):
        absent = [label for label in classes if label not in set(samples["label"][samples["split"] == split])]
        if absent:
            raise ValueError(f"{SAMPLES_FILE}: class {absent[0]!r:.80} has no sample in the {split} split")


def _open_stamps(path: Path) -> NDArray[Any]:
    try:
        with warnings.catch_warnings(action="ignore"):
            return load_stamps(path)
    except Exception as error:
        # NumPy parses the header as Python's literals, which fails in as many ways as there are hostile headers.
        raise ValueError(f"{path.name}: {error}") from None


def _check_stamps(stamps: NDArray[Any], samples: int, *, mask_channel: bool) -> None:
    if stamps.ndim != 4 or 0 in stamps.shape or stamps.dtype not in _PIXELS:
        raise ValueError(
            f"{STAMPS_FILE} should be [samples, channels, height, width] of {', '.join(map(str, _PIXELS))}, "
            f"but is {list(stamps.shape)} of {stamps.dtype.str}"
        )
    if len(stamps) != samples:
        raise ValueError(f"{STAMPS_FILE} has {len(stamps)} stamps, but {SAMPLES_FILE} {samples} rows")
    if mask_channel and stamps.shape[1] < 2:
        raise ValueError(f"{STAMPS_FILE} should have a mask behind the channels of a stamp, but has one channel")
    if stamps.dtype.kind == "f":
        for start in range(0, len(stamps), _STAMPS_AT_ONCE):
            wrong = ~np.isfinite(stamps[start : start + _STAMPS_AT_ONCE]).all(axis=(1, 2, 3))
            if wrong.any():
                raise ValueError(f"{STAMPS_FILE}: stamp {start + int(wrong.argmax())} has pixels that are not finite")
