"""Stamps: image files found, checked and decoded into one packed array."""

import functools
import hashlib
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from spacewarps.errors import SpaceWarpsError, SurveyError
from spacewarps.resources import available_cores, shortage
from spacewarps.survey.images import MAX_BYTES, StampError, StampShape, check_range, read_stamp
from spacewarps.survey.masks import mask_of, packed_shape, with_mask
from spacewarps.survey.packing import packed_rows, sort_rows
from spacewarps.survey.pixels import crop, fill_masked, missing_before, pad
from spacewarps.survey.readers import READERS, Reader, reader_of, reader_of_content, split_name
from spacewarps.survey.settings import MAX_CHANNELS, MAX_SIDE, StampSettings

_CHUNK = 256
# Beyond, the audit would list the sizes more than the faults.
_SIZES_TOLD = 3
_KINDS_TOLD = 3
_NO_STAMP = "no stamp"
_CHANGED = "stamp that changed while the survey was prepared"
_PIXELS = ("uint8", "float32")

# What joins an id and a band in the name of a file.
JOINTS = ("-", "_", ".")

Progress = Callable[[int], None]
# Of one stamp: one, or one for each band.
Files = tuple[Path, ...]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a stamp's file says of itself before it is decoded.

    Args:
        shape: as it is delivered.
        digest: of its bytes.
        beyond: how many pixels of each channel will lie beyond the edge of what was delivered, where the stamp lies
            around a position.
        moved: how many pixels lie between that position and the middle of what was delivered, where that is a stamp.
    """

    shape: StampShape
    digest: str
    beyond: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """A stamp's pixels, ``[channels, height, width]``, and how many of those that it was delivered with are masked."""

    pixels: NDArray[np.generic]
    masked: int


class Place(Protocol):
    """Where a stamp is that has no file of its own, or lies anywhere but in the middle of it.

    Whoever asks it from several threads gets what one would get.
    """

    @property
    def file(self) -> Path:
        """The file, or the first of several."""

    @property
    def order(self) -> tuple[Any, ...]:
        """What places are sorted by, so that files are read from their beginning to their end."""

    def inspect(self, how: StampSettings) -> Inspected:
        """Return the stamp's shape and digest.

        Raises:
            StampError: there is none.
        """

    def decode(self, shape: StampShape, how: StampSettings) -> Decoded:
        """Return the stamp.

        Raises:
            StampError: it is damaged, or of another shape.
        """


#: Where a stamp is.
Whereabouts = Files | Place


class StampFolder:
    """The image files of a folder, by the id that names them, in Unicode's composed form (NFC).

    Args:
        path: the folder.
        bands: where each channel has a file of its own, their names.
    """

    def __init__(self, path: Path, bands: Sequence[str] = ()) -> None:
        if not path.is_dir():
            what = "not a folder" if path.exists() else "no such folder"
            raise SurveyError(f"{path}: {what}; point `images` at the folder of stamps")
        self.path, self._bands = path, tuple(bands)
        self.files: dict[str, list[str]] = {}
        others: Counter[str] = Counter()
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                stem, suffix = split_name(entry.name)
                if suffix in READERS:
                    # Some systems write an accented letter as one character, some as two.
                    self.files.setdefault(unicodedata.normalize("NFC", stem), []).append(entry.name)
                else:
                    others["folder" if entry.is_dir() else suffix[:20] or "file without a suffix"] += 1
        if not self.files:
            raise SurveyError(
                f"{path}: holds no image ({', '.join(READERS)}){_describe_others(others)}; save stamps as FITS, NumPy, "
                "PNG, JPEG, or TIFF of float32, or point `images` at the folder that holds them"
            )

    def find(self, sample_id: str) -> Files:
        """Return the file of the sample called ``sample_id``, or that of each of its bands.

        Only names that the folder itself lists are ever opened, so no id can lead out of it.

        Raises:
            StampError: there is no such file, or more than one.
        """
        if "/" in sample_id or "\\" in sample_id or "\0" in sample_id:
            raise StampError("id that is not a file name")
        key = unicodedata.normalize("NFC", sample_id)
        if not self._bands:
            return (self._one([key], _NO_STAMP),)
        return tuple(
            self._one([f"{key}{joint}{band}" for joint in JOINTS], f"{_NO_STAMP} in the band {band}")
            for band in self._bands
        )

    def stems_of(self, sample_id: str) -> list[str]:
        """Return what the names of the files of ``sample_id`` may be without their suffixes."""
        if not self._bands:
            return [sample_id]
        return [f"{sample_id}{joint}{band}" for band in self._bands for joint in JOINTS]

    def _one(self, stems: Sequence[str], missing: str) -> Path:
        names = [name for stem in stems for name in self.files.get(stem, ())]
        if not names:
            raise StampError(missing)
        if len(names) > 1:
            raise StampError("several stamps")
        return self.path / names[0]


def _describe_others(kinds: Counter[str]) -> str:
    return ", but " + ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_KINDS_TOLD)) if kinds else ""


def inspect_stamps(
    places: Sequence[Whereabouts], how: StampSettings, progress: Progress
) -> list[Inspected | StampError]:
    """Read the header and the digest of each stamp, in order; a fault stands in its stamp's place."""
    order = _reading_order(places)
    found = _on_all_cores(functools.partial(_inspect, how=how), [places[number] for number in order], progress)
    return _put_back(found, order)


def fitted_shape(shape: StampShape, how: StampSettings) -> StampShape:
    """Return the shape of a stamp once it is cropped or padded as ``how`` says."""
    return shape if how.stamp_size is None else replace(shape, height=how.stamp_size, width=how.stamp_size)


def most_common_shape(stamps: Sequence[Inspected | StampError]) -> StampShape:
    """Return the size and the type of a pixel that most stamps have, and the channels that most of these have.

    Raises:
        SurveyError: there is no usable stamp at all.
    """
    shapes = Counter(stamp.shape for stamp in stamps if isinstance(stamp, Inspected))
    if not shapes:
        raise SurveyError(_describe_unusable(stamps))
    sizes: Counter[StampShape] = Counter()
    for shape, count in shapes.items():
        sizes[replace(shape, channels=0)] += count
    size = _most_common(sizes)
    return _most_common(Counter({shape: n for shape, n in shapes.items() if replace(shape, channels=0) == size}))


def describe_misfits(shapes: Iterable[StampShape], shape: StampShape, whose: str) -> dict[StampShape, str]:
    """Return why stamps are left out that differ from ``shape``, which is ``whose``, in more than channels."""
    wanted = f"{shape.width} x {shape.height}"
    sizes = {(other.width, other.height) for other in shapes} - {(shape.width, shape.height)}
    misfits = {}
    for other in shapes:
        if (other.width, other.height) in sizes:
            size = f"{other.width} x {other.height}" if len(sizes) <= _SIZES_TOLD else f"{len(sizes)} sizes"
            misfits[other] = f"stamp of another size ({size}, where {whose} {wanted} pixels in width and height)"
        elif other.dtype != shape.dtype:
            misfits[other] = f"stamp of another pixel type ({other.dtype}, where {whose} {shape.dtype})"
    return misfits


def pack_stamps(
    places: Sequence[Whereabouts], shape: StampShape, how: StampSettings, target: Path, progress: Progress
) -> list[StampError | int]:
    """Decode the stamps at ``places`` into ``target``, a ``.npy`` array ``[stamps, channels, height, width]``.

    Where ``how`` asks for the mask as a channel, there is one channel more than in ``shape``.

    Grey stamps become colour ones and the reverse where nothing is lost. A stamp that cannot be decoded is left out
    and its fault returned in its place, and of others how many pixels are masked. Memory use does not depend on how
    many stamps there are.

    Raises:
        SurveyError: the disk has no room for the stamps.
    """
    size, dtype = packed_shape(shape, how), np.dtype(shape.dtype)
    found: list[StampError | int] = []
    order = _reading_order(places)
    with packed_rows(target, dtype=dtype, shape=size, most=len(places), what=f"{len(places)} stamps") as append:
        to_read = [places[number] for number in order]
        for stamp in _on_all_cores(functools.partial(_decode, shape=shape, how=how), to_read, progress):
            if isinstance(stamp, StampError):
                found.append(stamp)
            else:
                append(stamp.pixels)
                found.append(stamp.masked)
    sort_rows(target, [number for number, stamp in zip(order, found, strict=True) if isinstance(stamp, int)])
    return _put_back(found, order)


def decode_stamps(
    places: Sequence[Whereabouts], shape: StampShape, how: StampSettings
) -> list[NDArray[np.generic] | StampError]:
    """Return the stamp at each of ``places``, ``[channels, height, width]``; a fault stands in its stamp's place.

    Stamps are converted as by :func:`pack_stamps`.
    """
    order = _reading_order(places)
    to_read = [places[number] for number in order]
    stamps = _on_all_cores(functools.partial(_decode, shape=shape, how=how), to_read, lambda _: None)
    return _put_back((stamp if isinstance(stamp, StampError) else stamp.pixels for stamp in stamps), order)


def decode_content(content: bytes, shape: StampShape, how: StampSettings) -> NDArray[np.generic]:
    """Return the stamp in the ``content`` of a file as pixels, ``[channels, height, width]`` of ``shape``.

    As by :func:`pack_stamps`, with its mask if ``how`` asks for it. Its first bytes tell the format.

    Raises:
        StampError: it is no stamp, damaged, of another shape, or to be cut at a position.
    """
    if len(content) > MAX_BYTES:
        raise StampError("stamp of absurd size")
    reader = reader_of_content(content, how)
    found = _shape_in(content, reader)
    if how.stamp_centre == "position" and (found.height, found.width) != (shape.height, shape.width):
        raise StampError(
            "stamp that is cut at the position of its source, which a file by itself does not tell; send one of "
            f"{shape.width} x {shape.height} pixels"
        )
    becomes = fitted_shape(found, how)
    misfits = describe_misfits([becomes], shape, "the network takes")
    if misfits:
        raise StampError(misfits[becomes])
    return fitted(_pixels_in(content, reader, shape.channels, found), shape, how).pixels


def _describe_unusable(stamps: Sequence[Inspected | StampError]) -> str:
    """Return what is wrong with a survey in which no stamp can be used."""
    reasons = Counter(str(stamp) for stamp in stamps)
    reason = reasons.most_common(1)[0][0] if reasons else "the catalogue names none"
    if reason == _NO_STAMP or not reasons:
        advice = "check that `images` holds files that are named by the catalogue's ids"
    else:
        advice = "mend the files in `images`"
    return f"none of {len(stamps)} samples has a usable stamp (most often: {reason}); {advice}"


def _most_common(shapes: Counter[StampShape]) -> StampShape:
    # The count decides, and where it is equal the shape itself, so that the order of rows does not.
    return min(shapes, key=lambda shape: (-shapes[shape], repr(shape)))


def _reading_order(places: Sequence[Whereabouts]) -> list[int]:
    """Return in which order stamps are read: as they come, but where several are in one file, as they stand there."""

    def place_of(number: int) -> tuple[Any, ...]:
        place = places[number]
        return () if isinstance(place, tuple) else place.order

    return sorted(range(len(places)), key=place_of)


def _put_back(found: Iterable[Result], order: Sequence[int]) -> list[Result]:
    """Return what was ``found`` in some ``order`` of numbers in the order of these numbers."""
    return [one for _, one in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]


def _on_all_cores(
    work: Callable[[Whereabouts], Result], places: Sequence[Whereabouts], progress: Progress
) -> Iterator[Result | StampError]:
    """Yield what ``work`` gives for each place, in order.

    Threads suffice: Pillow and hashlib let go of the interpreter while they read, decode and hash.
    """

    def attempt(place: Whereabouts) -> Result | StampError:
        try:
            return work(place)
        except StampError as error:
            return error
        except MemoryError:
            file = place[0] if isinstance(place, tuple) else place.file
            raise SpaceWarpsError(
                f"{file}: not enough memory to decode it; close other programs, or remove the file if it is damaged"
            ) from None

    # Pillow warns of what is odd in a file; what cannot be used becomes a fault, and the rest is of no concern. The
    # filters belong to the whole process, so they are set here and not in each thread.
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            yield from pool.map(attempt, chunk)
            progress(len(chunk))


def _inspect(place: Whereabouts, how: StampSettings) -> Inspected:
    return inspect_files(place, how) if isinstance(place, tuple) else place.inspect(how)


def inspect_files(files: Files, how: StampSettings) -> Inspected:
    """Return what ``files``, one or one for each band, say of the stamp in them.

    Raises:
        StampError: there is none in one of them, or they do not go together.
    """
    contents = [read_stamp(file) for file in files]
    shape = _joined([_shape_in(content, reader_of(file, how)) for file, content in zip(files, contents, strict=True)])
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(content)
    return Inspected(shape, digest.hexdigest())


def _joined(shapes: Sequence[StampShape]) -> StampShape:
    """Return the shape of the stamp whose bands have ``shapes``."""
    if len(shapes) == 1:
        return shapes[0]
    if any(shape.channels != 1 for shape in shapes):
        raise StampError("band of several channels, where each has a file of its own")
    if len({(shape.height, shape.width) for shape in shapes}) > 1:
        raise StampError("stamp whose bands differ in size")
    dtype = shapes[0].dtype if len({shape.dtype for shape in shapes}) == 1 else "float32"
    return replace(shapes[0], channels=len(shapes), dtype=dtype)


def _shape_in(content: bytes, reader: Reader) -> StampShape:
    with faults_of_a_reader():
        said = reader.shape_of(content)
        shape = StampShape(int(said.channels), int(said.height), int(said.width), str(np.dtype(said.dtype)))
    sides = (shape.height, shape.width)
    if not (1 <= shape.channels <= MAX_CHANNELS and 1 <= min(sides) <= max(sides) <= MAX_SIDE):
        raise StampError("stamp of absurd size")
    if shape.dtype not in _PIXELS:
        raise StampError(f"stamp that is read as {shape.dtype}, where a pixel must be {' or '.join(_PIXELS)}")
    return shape


def _decode(place: Whereabouts, shape: StampShape, how: StampSettings) -> Decoded:
    if not isinstance(place, tuple):
        return place.decode(shape, how)
    return fitted(decode_files(place, shape, how), shape, how)


def decode_files(files: Files, shape: StampShape, how: StampSettings) -> NDArray[np.generic]:
    """Return the stamp in ``files``, of the channels and the pixel type of ``shape``, in the size that it has there.

    Raises:
        StampError: one of them is damaged, or has changed since it was inspected.
    """
    if len(files) == 1:
        content, reader = read_stamp(files[0]), reader_of(files[0], how)
        found = _shape_in(content, reader) if how.stamp_size else shape
        return _pixels_in(content, reader, shape.channels, found)
    bands = []
    for file in files:
        content, reader = read_stamp(file), reader_of(file, how)
        bands.append(_pixels_in(content, reader, 1, _shape_in(content, reader)))
    if len({band.shape for band in bands}) > 1 or len(bands) != shape.channels:
        raise StampError(_CHANGED)
    return np.concatenate(bands).astype(shape.dtype, copy=False)


def _pixels_in(content: bytes, reader: Reader, channels: int, found: StampShape) -> NDArray[np.generic]:
    """Return the stamp in ``content``, of the size and the pixel type that were ``found`` in it."""
    with faults_of_a_reader():
        stamp = np.asarray(reader.decode(content, channels))
    if (stamp.shape, stamp.dtype) != ((channels, found.height, found.width), np.dtype(found.dtype)):
        raise StampError(_CHANGED)
    return stamp


def fitted(
    stamp: NDArray[np.generic], shape: StampShape, how: StampSettings, centre: tuple[int, int] | None = None
) -> Decoded:
    """Return ``stamp`` in the size that is asked for, with the sky where it is masked, and its mask if asked for.

    Args:
        stamp: as it was delivered, ``[channels, h, w]``.
        shape: what is wanted, without the mask.
        how: whether it is cropped and padded to a size, and whether the mask becomes a channel.
        centre: the pixel, row and column, that comes to the middle; that in the middle without it.

    Raises:
        StampError: too much is masked, a pixel is too large, or it is of another shape than it was.
    """
    left_out = None
    if how.stamp_size is not None:
        left_out = centre and missing_before(shape.height, shape.width, centre)
        stamp = crop(stamp, shape.height, shape.width, centre)
    mask = mask_of(stamp) if how.mask_channel else None
    stamp, masked = fill_masked(stamp)
    if stamp.dtype.kind == "f":
        check_range(stamp)
    if how.stamp_size is not None:
        stamp = pad(stamp, shape.height, shape.width, left_out)
    if (stamp.shape, stamp.dtype) != ((shape.channels, shape.height, shape.width), np.dtype(shape.dtype)):
        raise StampError(_CHANGED)
    if mask is not None:
        stamp = with_mask(stamp, mask, left_out)
    return Decoded(np.ascontiguousarray(stamp), masked)


@contextmanager
def faults_of_a_reader() -> Iterator[None]:
    """Let what a reader raises be a fault of its stamp, unless the machine is short of something."""
    try:
        yield
    except (StampError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and shortage(error, "prepare"):
            raise
        raise StampError("damaged stamp") from None
