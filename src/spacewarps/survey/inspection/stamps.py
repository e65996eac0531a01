"""A sample of the stamps of a survey: their sizes, pixels and faults, and how all of them could be read alike."""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from astropy.io import fits

from spacewarps.errors import SurveyError
from spacewarps.survey import gzipped
from spacewarps.survey.columns import listed
from spacewarps.survey.fits_images import FitsReader
from spacewarps.survey.images import MAX_BYTES, StampError, StampShape, read_stamp
from spacewarps.survey.readers import reader_of, split_name
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamps import Files, Inspected, inspect_stamps

#: Stamps that are looked at, of however many.
MOST_STAMPS = 300
# What the image is called that people mean, where a file has several.
_MEANT = re.compile(r"sci|science|image|img|data|stamp|cutout|coadd|flux", re.IGNORECASE)
_SEVERAL = re.compile(r"(FITS of several images|NumPy archive of \d+ arrays)")
_MOST_EXTENSIONS = 20


@dataclass
class FoundStamps:
    """What a sample of stamps is.

    Args:
        count: how many were looked at.
        suffixes: the number of each kind of file.
        how: the settings that read all of them alike.
        shapes: how many have each shape, before they are cropped or padded.
        faults: why others cannot be used.
        lowest: the lowest pixel.
        highest: the highest.
        masked: the share of masked pixels of each stamp that has some.
    """

    count: int
    suffixes: Counter[str]
    how: StampSettings
    shapes: Counter[StampShape] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    lowest: float = float("inf")
    highest: float = float("-inf")
    masked: list[float] = field(default_factory=list)


def inspect_sample(files: Sequence[Files], how: StampSettings) -> FoundStamps:
    """Look at ``files``, one stamp at a time.

    Args:
        files: those of each stamp.
        how: the bands, and the extension if it is known.

    Raises:
        SurveyError: each file has several images, and which is meant only the user knows.
    """
    inspected = inspect_stamps(files, how, lambda _: None)
    several = [
        number for number, each in enumerate(inspected) if isinstance(each, StampError) and _SEVERAL.match(str(each))
    ]
    if several and how.stamp_extension is None:
        how = replace(how, stamp_extension=_extension_of(files[several[0]]))
        inspected = inspect_stamps(files, how, lambda _: None)
    suffixes = Counter(split_name(file.name)[1] for each in files for file in each)
    found = FoundStamps(len(files), suffixes, how)
    for each, stamp in zip(files, inspected, strict=True):
        try:
            if isinstance(stamp, StampError):
                raise stamp
            _add_pixels(each, stamp, found)
        except StampError as fault:
            found.faults[str(fault)] += 1
        else:
            found.shapes[stamp.shape] += 1
    found.how = replace(found.how, stamp_size=_size_for(found.shapes))
    return found


def _add_pixels(files: Files, stamp: Inspected, found: FoundStamps) -> None:
    masked = pixels = 0
    for file in files:
        channels = stamp.shape.channels if len(files) == 1 else 1
        try:
            numbers = reader_of(file, found.how).decode(read_stamp(file), channels)
        except (StampError, MemoryError):
            raise
        except Exception:
            # What a reader raises beside these makes a damaged stamp, as everywhere.
            raise StampError("damaged stamp") from None
        known = numbers[np.isfinite(numbers)]
        masked, pixels = masked + numbers.size - known.size, pixels + numbers.size
        if known.size:
            found.lowest = min(found.lowest, float(known.min()))
            found.highest = max(found.highest, float(known.max()))
    if masked:
        found.masked.append(masked / pixels)


def _size_for(shapes: Counter[StampShape]) -> int | None:
    """Return the side that stamps of several sizes are cropped or padded to; None where all have one square size.

    It is that of most stamps; where no size has most of them, the median of all sides. Of oblong stamps, it is the
    shorter side.
    """
    sides = Counter({(shape.height, shape.width): 0 for shape in shapes})
    for shape, count in shapes.items():
        sides[shape.height, shape.width] += count
    if not sides or (len(sides) == 1 and len(set(next(iter(sides)))) == 1):
        return None
    (most, count), *_ = sorted(sides.items(), key=lambda item: (-item[1], item[0]))
    if 2 * count >= sides.total():
        return min(most)
    return int(np.median([min(size) for size in sides.elements()]))


def _extension_of(files: Files) -> int | str:
    """Return which of several images in a file is the stamp, by their names.

    Raises:
        SurveyError: their names do not say.
    """
    content = read_stamp(files[0])
    names = _arrays(content) if content.startswith(b"PK\x03\x04") else _extensions(content)
    meant = [name for name in names if _MEANT.fullmatch(str(name))]
    if len(meant) == 1:
        return meant[0]
    raise SurveyError(
        f"{files[0]}: holds several images, {listed(map(str, names))}; say which one is the stamp: --extension NAME"
    )


def _arrays(content: bytes) -> list[int | str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name != "mask.npy"]


def _extensions(content: bytes) -> list[int | str]:
    """Return the images in a FITS file, by name where a name stands once, and by number elsewhere."""
    if content.startswith(gzipped.MAGIC):
        content = gzipped.gunzip(content, at_most=MAX_BYTES)
    found: list[int | str] = []
    for number in range(_MOST_EXTENSIONS):
        try:
            FitsReader(number).shape_of(content)
        except StampError:
            continue
        with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True) as file:
            name = str(file[number].name)
        found.append(name if name and name not in found else number)
    return found


def described(shape: StampShape) -> str:
    """Return a shape in words."""
    channels = f"{shape.channels} channel{'s' * (shape.channels > 1)}"
    return f"{shape.width} x {shape.height} pixels of {shape.dtype}, {channels}"
