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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spacewarps.errors import SpaceWarpsError, SurveyError
from spacewarps.resources import available_cores, shortage
from spacewarps.survey import images
from spacewarps.survey.images import MAX_BYTES, MAX_SIDE, StampError, StampShape, check_range, read_stamp
from spacewarps.survey.packing import packed_rows
from spacewarps.survey.readers import READERS, Reader, reader_of

_CHUNK = 256
# Beyond, the audit would list the sizes more than the faults.
_SIZES_TOLD = 3
_KINDS_TOLD = 3
_NO_STAMP = "no stamp"
_PIXELS = ("uint8", "float32")

Progress = Callable[[int], None]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a stamp's file says of itself before it is decoded."""

    shape: StampShape
    digest: str


class StampFolder:
    """The image files of a folder, by the id that names them, in Unicode's composed form (NFC)."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            what = "not a folder" if path.exists() else "no such folder"
            raise SurveyError(f"{path}: {what}; point `images` at the folder of stamps")
        self.path = path
        self.files: dict[str, list[str]] = {}
        others: Counter[str] = Counter()
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                file = Path(entry.name)
                if file.suffix.lower() in READERS:
                    # Some systems write an accented letter as one character, some as two.
                    self.files.setdefault(unicodedata.normalize("NFC", file.stem), []).append(entry.name)
                else:
                    others["folder" if entry.is_dir() else file.suffix.lower()[:20] or "file without a suffix"] += 1
        if not self.files:
            raise SurveyError(
                f"{path}: holds no image ({', '.join(READERS)}){_describe_others(others)}; "
                "save stamps as PNG, JPEG, or TIFF of float32, or point `images` at the folder that holds them"
            )

    def find(self, sample_id: str) -> Path:
        """Return the file of the sample called ``sample_id``.

        Only names that the folder itself lists are ever opened, so no id can lead out of it.

        Raises:
            StampError: there is no such file, or more than one.
        """
        if "/" in sample_id or "\\" in sample_id or "\0" in sample_id:
            raise StampError("id that is not a file name")
        names = self.files.get(unicodedata.normalize("NFC", sample_id))
        if names is None:
            raise StampError(_NO_STAMP)
        if len(names) > 1:
            raise StampError("several stamps")
        return self.path / names[0]


def _describe_others(kinds: Counter[str]) -> str:
    return ", but " + ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_KINDS_TOLD)) if kinds else ""


def inspect_stamps(files: Sequence[Path], progress: Progress) -> list[Inspected | StampError]:
    """Read each file's header and digest, in order; a fault stands in its file's place."""
    return list(_on_all_cores(_inspect, files, progress))


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


def pack_stamps(files: Sequence[Path], shape: StampShape, target: Path, progress: Progress) -> list[StampError | None]:
    """Decode ``files`` into ``target``, a ``.npy`` array ``[stamps, channels, height, width]``.

    Grey stamps become colour ones and the reverse where nothing is lost. A stamp that cannot be decoded is left out
    and its fault returned in its place. Memory use does not depend on how many stamps there are.

    Raises:
        SurveyError: the disk has no room for the stamps.
    """
    size, dtype = (shape.channels, shape.height, shape.width), np.dtype(shape.dtype)
    faults: list[StampError | None] = []
    with packed_rows(target, dtype=dtype, shape=size, most=len(files), what=f"{len(files)} stamps") as append:
        for stamp in _on_all_cores(functools.partial(_decode, shape=shape), files, progress):
            if isinstance(stamp, StampError):
                faults.append(stamp)
            else:
                append(stamp)
                faults.append(None)
    return faults


def decode_stamps(files: Sequence[Path], shape: StampShape) -> list[NDArray[np.generic] | StampError]:
    """Return each of ``files`` as pixels, ``[channels, height, width]``; a fault stands in its stamp's place.

    Stamps are converted as by :func:`pack_stamps`.
    """
    return list(_on_all_cores(functools.partial(_decode, shape=shape), files, lambda _: None))


def decode_picture(content: bytes, shape: StampShape) -> NDArray[np.generic]:
    """Return the stamp in the ``content`` of an image file as pixels, ``[channels, height, width]`` of ``shape``.

    Raises:
        StampError: it is no image, damaged, or of another shape.
    """
    if len(content) > MAX_BYTES:
        raise StampError("stamp of absurd size")
    found = _shape_in(content, images)
    misfits = describe_misfits([found], shape, "the network takes")
    if misfits:
        raise StampError(misfits[found])
    return _pixels_in(content, images, shape)


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


def _on_all_cores(
    work: Callable[[Path], Result], files: Sequence[Path], progress: Progress
) -> Iterator[Result | StampError]:
    """Yield what ``work`` gives for each file, in order.

    Threads suffice: Pillow and hashlib let go of the interpreter while they read, decode and hash.
    """

    def attempt(file: Path) -> Result | StampError:
        try:
            return work(file)
        except StampError as error:
            return error
        except MemoryError:
            raise SpaceWarpsError(
                f"{file}: not enough memory to decode it; close other programs, or remove the file if it is damaged"
            ) from None

    # Pillow warns of what is odd in a file; what cannot be used becomes a fault, and the rest is of no concern. The
    # filters belong to the whole process, so they are set here and not in each thread.
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            yield from pool.map(attempt, chunk)
            progress(len(chunk))


def _inspect(file: Path) -> Inspected:
    content = read_stamp(file)
    return Inspected(_shape_in(content, reader_of(file)), hashlib.blake2b(content, digest_size=16).hexdigest())


def _shape_in(content: bytes, reader: Reader) -> StampShape:
    with _faults_of_a_reader():
        said = reader.shape_of(content)
        shape = StampShape(int(said.channels), int(said.height), int(said.width), str(np.dtype(said.dtype)))
    if shape.channels < 1 or not 1 <= min(shape.height, shape.width) <= max(shape.height, shape.width) <= MAX_SIDE:
        raise StampError("stamp of absurd size")
    if shape.dtype not in _PIXELS:
        raise StampError(f"stamp that is read as {shape.dtype}, where a pixel must be {' or '.join(_PIXELS)}")
    return shape


def _decode(file: Path, shape: StampShape) -> NDArray[np.generic]:
    return _pixels_in(read_stamp(file), reader_of(file), shape)


def _pixels_in(content: bytes, reader: Reader, shape: StampShape) -> NDArray[np.generic]:
    with _faults_of_a_reader():
        stamp = np.asarray(reader.decode(content, shape.channels))
    if (stamp.shape, stamp.dtype) != ((shape.channels, shape.height, shape.width), np.dtype(shape.dtype)):
        raise StampError("stamp that changed while the survey was prepared")
    if stamp.dtype.kind == "f":
        check_range(stamp)
    return stamp


@contextmanager
def _faults_of_a_reader() -> Iterator[None]:
    """Let what a reader raises be a fault of its stamp, unless the machine is short of something."""
    try:
        yield
    except (StampError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and shortage(error, "prepare"):
            raise
        raise StampError("damaged stamp") from None
