"""What a network learned from, beside the network: what its answers can be trusted for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from spacewarps.errors import ModelError
from spacewarps.model.ensemble import Network
from spacewarps.reading import read_json
from spacewarps.settings import SettingsError, as_values
from spacewarps.survey.samples import Samples
from spacewarps.survey.settings import StampSettings
from spacewarps.writing import write_json

REFERENCE_FILE = "reference.json"

_FORMAT = "spacewarps-reference-1"
# Some megabytes of memory, whatever the survey's size.
_STAMPS_AT_ONCE = 1024


class Range(NamedTuple):
    """The smallest and the largest value that there was."""

    low: float
    high: float


@dataclass(frozen=True)
class Reference:
    """What the final network learned from, its training and validation split.

    Args:
        pixels: the type of a stamp's pixels, ``uint8`` or ``float32``.
        brightness: of a stamp's median pixel, in the survey's units.
        spread: of the standard deviation of a stamp's pixels.
        features: of each feature; none where it had no value at all.
        missing_codes: the values of a feature that mean that there is none.
        stamps: how the files of stamps were read, as those of another survey are.
        positions: the catalogue's names for right ascension and declination, where these decide what a stamp is.
        coverage: the promised share of a class's samples whose prediction set has the class.
        thresholds: of the score of each class in a prediction set
            (:func:`~spacewarps.training.conformal.class_thresholds`); none where no sample was held out to find them.
    """

    pixels: str
    brightness: Range
    spread: Range
    features: Mapping[str, Range | None]
    missing_codes: Mapping[str, tuple[float, ...]]
    stamps: StampSettings
    coverage: float
    thresholds: tuple[float, ...] | None
    positions: tuple[str, str] | None = None


def levels(stamps: NDArray[Any]) -> NDArray[np.float64]:
    """Return the median pixel of each stamp and the standard deviation of its pixels, ``[N, 2]``.

    Args:
        stamps: ``[N, C, H, W]``, uint8 or float32, without their masks.
    """
    flat = stamps.reshape(len(stamps), -1).astype(np.float64)
    return np.stack([np.median(flat, axis=1), flat.std(axis=1)], axis=1)


def levels_of(samples: Samples) -> NDArray[np.float64]:
    """Return the :func:`levels` of the stamps of ``samples``, ``[N, 2]``."""
    measured = []
    for start in range(0, len(samples), _STAMPS_AT_ONCE):
        packed = samples.packed[samples.rows[start : start + _STAMPS_AT_ONCE]]
        measured.append(levels(packed[:, : samples.image_channels]))
    return np.concatenate(measured)


def describe_training(
    parts: Sequence[Samples],
    *,
    missing_codes: Mapping[str, Sequence[float]],
    stamps: StampSettings,
    coverage: float,
    thresholds: tuple[float, ...] | None,
    positions: tuple[str, str] | None = None,
) -> Reference:
    """Return what is to be known of the samples in ``parts``, which a network learned from."""
    features = np.concatenate([part.features.numpy() for part in parts]).astype(np.float64)
    brightness, spread = np.concatenate([levels_of(part) for part in parts]).T
    names = parts[0].feature_names
    return Reference(
        str(parts[0].packed.dtype),
        _range(brightness),
        _range(spread),
        {name: _range_of_known(features[:, column]) for column, name in enumerate(names)},
        {name: tuple(float(code) for code in codes) for name, codes in sorted(missing_codes.items())},
        stamps,
        coverage,
        thresholds,
        positions,
    )


def _range(values: NDArray[np.float64]) -> Range:
    return Range(float(values.min()), float(values.max()))


def _range_of_known(values: NDArray[np.float64]) -> Range | None:
    known = values[np.isfinite(values)]
    return _range(known) if len(known) else None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Interval(_Part):
    low: FiniteFloat
    high: FiniteFloat


class _Written(_Part):
    format: Literal["spacewarps-reference-1"]
    pixels: Literal["uint8", "float32"]
    brightness: _Interval
    spread: _Interval
    features: dict[str, _Interval | None]
    missing_codes: dict[str, list[FiniteFloat]]
    # Absent where nothing was set, as in files of before there was anything to set.
    stamps: dict[str, Any] = {}
    positions: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    coverage: Annotated[float, Field(gt=0, lt=1)]
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] | None


def write_reference(reference: Reference, classes: Sequence[str], path: Path) -> None:
    """Write ``reference``, of a network that tells ``classes`` apart, to ``path`` as JSON."""
    thresholds = None if reference.thresholds is None else dict(zip(classes, reference.thresholds, strict=True))
    write_json(
        path,
        {
            "format": _FORMAT,
            "pixels": reference.pixels,
            "brightness": reference.brightness._asdict(),
            "spread": reference.spread._asdict(),
            "features": {name: found and found._asdict() for name, found in reference.features.items()},
            "missing_codes": {name: list(codes) for name, codes in reference.missing_codes.items()},
            **({"stamps": _values_of(reference.stamps)} if reference.stamps != StampSettings() else {}),
            **({"positions": list(reference.positions)} if reference.positions is not None else {}),
            "coverage": reference.coverage,
            "thresholds": thresholds,
        },
    )


def _values_of(stamps: StampSettings) -> dict[str, Any]:
    values: dict[str, Any] = as_values(stamps)
    # Left out where nothing was set, as in files of before there was such a setting.
    return values if stamps.mask_channel else {name: value for name, value in values.items() if name != "masks"}


def read_reference(folder: Path, model: Network) -> Reference:
    """Return what stands beside ``model`` in its ``folder``.

    Raises:
        ModelError: it is missing, damaged, or that of another network.
    """
    path = folder / REFERENCE_FILE
    try:
        found = read_json(path, _Written)
        stamps = StampSettings(**found.stamps)
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such file, so nobody knows what the network learned from; run `dvc repro` to train it again"
        ) from None
    except (OSError, ValueError, SettingsError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ModelError(f"{path}: damaged ({reason:.200}); train the network again") from None
    classes = None if found.thresholds is None else list(found.thresholds)
    if stamps.needs_positions and found.positions is None:
        raise ModelError(f"{path}: damaged (no names of positions, by which stamps are cut); train the network again")
    for what, told, own in (
        ("features", list(found.features), list(model.inputs.features)),
        ("masks", stamps.mask_channel, model.inputs.mask_channel),
        ("classes", classes, None if classes is None else list(model.inputs.classes)),
    ):
        if told != own:
            raise ModelError(f"{path}: its {what} are not those of the network beside it; train the network again")
    return Reference(
        found.pixels,
        Range(found.brightness.low, found.brightness.high),
        Range(found.spread.low, found.spread.high),
        {name: None if one is None else Range(one.low, one.high) for name, one in found.features.items()},
        {name: tuple(codes) for name, codes in found.missing_codes.items()},
        stamps,
        found.coverage,
        None if found.thresholds is None else tuple(found.thresholds.values()),
        None if found.positions is None else (found.positions[0], found.positions[1]),
    )
