"""Stamps: image files found, checked and decoded into one packed array."""

import hashlib
import io
import os
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spacewarps.errors import SurveyError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
# Larger than any stamp of one source; a file that claims more is damaged or hostile.
MAX_SIDE = 2048
# No stamp of that size takes more: four channels of four bytes, uncompressed, and room for a header.
MAX_BYTES = MAX_SIDE**2 * 4 * 4 + 2**20
_CHUNK = 256

Progress = Callable[[int], None]
Result = TypeVar("Result")


class StampError(Exception):
    """One stamp cannot be used; the message is the reason, as the audit counts it."""


@dataclass(frozen=True, slots=True)
class StampShape:
    """What all stamps of a survey have in common: ``[channels, height, width]`` and the type of a pixel."""

    channels: int
    height: int
    width: int
    dtype: str


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
            raise SurveyError(f"{path}: {what}; point data.images at the folder of stamps")
        self.path = path
        self.files: dict[str, list[str]] = {}
        with os.scandir(path) as entries:
            for name in sorted(entry.name for entry in entries):
                file = Path(name)
                if file.suffix.lower() in SUFFIXES:
                    # Some systems write an accented letter as one character, some as two.
                    self.files.setdefault(unicodedata.normalize("NFC", file.stem), []).append(name)
        if not self.files:
            raise SurveyError(
                f"{path}: holds no image ({', '.join(SUFFIXES)}); point data.images at the folder of stamps"
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
            raise StampError("no stamp")
        if len(names) > 1:
            raise StampError("several stamps")
        return self.path / names[0]


def inspect_stamps(files: Sequence[Path], progress: Progress) -> list[Inspected | StampError]:
    """Read each file's header and digest, in order; a fault stands in its file's place."""
    return list(_on_all_cores(_inspect, files, progress))


def most_common_shape(stamps: Sequence[Inspected | StampError]) -> StampShape:
    """Return the shape that most stamps have.

    Raises:
        SurveyError: there is no usable stamp at all.
    """
    shapes = Counter(stamp.shape for stamp in stamps if isinstance(stamp, Inspected))
    if not shapes:
        reasons = Counter(str(stamp) for stamp in stamps)
        reason = reasons.most_common(1)[0][0] if reasons else "the catalogue names none"
        raise SurveyError(
            f"none of {len(stamps)} samples has a usable stamp (most often: {reason}); "
            "check that data.images holds files that are named by the catalogue's ids"
        )
    # The count decides, and where it is equal the shape itself, so that the order of rows does not.
    return min(shapes, key=lambda shape: (-shapes[shape], repr(shape)))


def pack_stamps(files: Sequence[Path], shape: StampShape, target: Path, progress: Progress) -> list[StampError | None]:
    """Decode ``files`` into ``target``, a ``.npy`` array ``[stamps, channels, height, width]``.

    A stamp that cannot be decoded is left out and its fault returned in its place. Memory use does not depend on how
    many stamps there are.
    """
    size = (shape.channels, shape.height, shape.width)
    packed = np.lib.format.open_memmap(target, mode="w+", dtype=np.dtype(shape.dtype), shape=(len(files), *size))
    faults: list[StampError | None] = []
    rows = 0
    for stamp in _on_all_cores(_decode, files, progress):
        if isinstance(stamp, np.ndarray) and stamp.shape == size and stamp.dtype == packed.dtype:
            packed[rows] = stamp
            rows += 1
            faults.append(None)
        else:
            faults.append(stamp if isinstance(stamp, StampError) else StampError("stamp of another size"))
    packed.flush()
    if rows < len(files):
        _shorten(target, rows)
    return faults


def _shorten(path: Path, rows: int) -> None:
    """Keep the first ``rows`` of the array at ``path``."""
    whole = np.load(path, mmap_mode="r")
    kept = path.with_suffix(".kept.npy")
    part = np.lib.format.open_memmap(kept, mode="w+", dtype=whole.dtype, shape=(rows, *whole.shape[1:]))
    for start in range(0, rows, _CHUNK):
        part[start : start + _CHUNK] = whole[start : min(start + _CHUNK, rows)]
    part.flush()
    kept.replace(path)


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

    # Pillow warns of what is odd in a file; what cannot be used becomes a fault, and the rest is of no concern. The
    # filters belong to the whole process, so they are set here and not in each thread.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            yield from pool.map(attempt, chunk)
            progress(len(chunk))


def _read(file: Path) -> bytes:
    try:
        status = file.stat()
        # A pipe or a device might never come to an end.
        if not stat.S_ISREG(status.st_mode):
            raise StampError("stamp that is not a file")
        if status.st_size > MAX_BYTES:
            raise StampError("stamp of absurd size")
        content = file.read_bytes()
    except OSError:
        raise StampError("stamp that cannot be read") from None
    if not content:
        raise StampError("empty stamp file")
    return content


def _inspect(file: Path) -> Inspected:
    content = _read(file)
    with _open(content) as image:
        mode, dtype = _TARGETS[image.mode]
        shape = StampShape(Image.getmodebands(mode), image.height, image.width, dtype)
    return Inspected(shape, hashlib.blake2b(content, digest_size=16).hexdigest())


# How each of Pillow's modes becomes channels: what it is converted to, and the type of a pixel.
_TARGETS = {
    "1": ("L", "uint8"),
    "L": ("L", "uint8"),
    "LA": ("L", "uint8"),
    "P": ("RGB", "uint8"),
    "RGB": ("RGB", "uint8"),
    "RGBA": ("RGB", "uint8"),
    "CMYK": ("RGB", "uint8"),
    "YCbCr": ("RGB", "uint8"),
    "I;16": ("F", "float32"),
    "I;16B": ("F", "float32"),
    "I": ("F", "float32"),
    "F": ("F", "float32"),
}


def _open(content: bytes) -> Image.Image:
    """Open an image without decoding it, and refuse what is not a stamp."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise StampError("stamp of absurd size") from None
    except Exception:
        # Pillow's readers raise nearly anything on hostile bytes; whatever it is, the file is no image.
        raise StampError("stamp that is not an image") from None
    if max(image.size) > MAX_SIDE or min(image.size) < 1:
        raise StampError("stamp of absurd size")
    if image.mode not in _TARGETS:
        raise StampError(f"stamp in the unknown colour mode {image.mode}")
    return image


def _decode(file: Path) -> NDArray[np.generic]:
    """Return the stamp in ``file`` as ``[channels, height, width]``."""
    with _open(_read(file)) as image:
        mode, dtype = _TARGETS[image.mode]
        try:
            image.load()
            pixels = np.asarray(image.convert(mode), dtype=dtype)
        except Exception:
            # As above: a damaged body fails in as many ways as there are decoders.
            raise StampError("damaged stamp") from None
    if not np.isfinite(pixels).all():
        raise StampError("stamp with pixels that are not finite")
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
