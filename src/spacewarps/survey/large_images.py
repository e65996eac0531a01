"""Stamps cut from large images (FITS) at the positions of their sources; an image is never held as a whole."""

import hashlib
import math
import mmap
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from spacewarps.errors import SurveyError
from spacewarps.reading import check_file
from spacewarps.survey import gzipped
from spacewarps.survey.fits_blocks import FitsError, check_header
from spacewarps.survey.fits_images import (
    LARGEST_PIXEL,
    FitsReader,
    axes_of,
    check_compression,
    check_data,
    find_image,
    is_compressed,
)
from spacewarps.survey.images import StampError, StampShape, check_channels
from spacewarps.survey.pixels import as_pixels
from spacewarps.survey.readers import READERS, split_name
from spacewarps.survey.settings import MAX_CHANNELS, StampSettings
from spacewarps.survey.stamps import JOINTS, Decoded, Inspected, faults_of_a_reader, fitted
from spacewarps.survey.world_coordinates import WorldCoordinates, WorldError

_SUFFIXES = tuple(suffix for suffix, reader in READERS.items() if isinstance(reader, FitsReader))
# No camera has as many pixels a side; whole surveys come in tiles.
_MOST_PIXELS = 500_000
# Of what is unpacked at once.
_LARGEST_TILE = 2**26
# More than the bands of an image.
_OPEN_FILES = 2 * MAX_CHANNELS
_BY_GZIP = "GZIP_COMPRESSED_DATA"
_PIXELS = "COMPRESSED_DATA"
_UNPACKED = "UNCOMPRESSED_DATA"
_DAMAGED = "damaged image"

Pixel = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LargeFile:
    """An image in a FITS file: the file, the number of its extension, and its axes as NumPy orders them."""

    path: Path
    number: int
    axes: tuple[int, ...]

    @property
    def channels(self) -> int:
        """How many planes it has."""
        return 1 if len(self.axes) == 2 else self.axes[0]


@dataclass(frozen=True, slots=True)
class LargeImage:
    """A part of the sky: one file, or one for each band.

    Args:
        name: that of the file, without that of the band.
        files: in the order of the channels.
    """

    name: str
    files: tuple[LargeFile, ...]


@dataclass(frozen=True, slots=True)
class Cutout:
    """A stamp that is a part of an image; see :class:`~spacewarps.survey.stamps.Place`.

    Args:
        image: which.
        centres: the pixel of the source, row and column, in each of its files.
    """

    image: LargeImage
    centres: tuple[Pixel, ...]

    @property
    def file(self) -> Path:
        """The image's first file."""
        return self.image.files[0].path

    @property
    def order(self) -> tuple[Any, ...]:
        """One image after the other, each from its first row to its last."""
        return (self.image.name, *self.centres[0])

    def inspect(self, how: StampSettings) -> Inspected:
        """Return the stamp's shape, and the digest of its pixels."""
        pixels, beyond = self._pixels(how)
        shape = _shape_of(pixels)
        return Inspected(shape, hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest(), beyond)

    def decode(self, shape: StampShape, how: StampSettings) -> Decoded:
        """Return the stamp; pixels beyond the edge of the image are masked."""
        pixels, _ = self._pixels(how)
        check_channels(len(pixels), shape.channels)
        return fitted(pixels, shape, how)

    def _pixels(self, how: StampSettings) -> tuple[NDArray[np.generic], int]:
        """Return the stamp, NaN beyond the edges, and how many pixels of a channel are beyond them."""
        size = how.stamp_size
        assert size is not None
        planes, beyond = [], 0
        for file, (row, column) in zip(self.image.files, self.centres, strict=True):
            stamp = np.full((file.channels, size, size), np.nan, np.float32)
            rows, to_rows = _overlap(row, size, file.axes[-2])
            columns, to_columns = _overlap(column, size, file.axes[-1])
            with faults_of_a_reader():
                part = _opened(file).section(rows, columns)
                stamp[:, to_rows, to_columns] = as_pixels(part, _shape_of(part))
            beyond = max(beyond, size**2 - part.shape[1] * part.shape[2])
            planes.append(stamp)
        return np.concatenate(planes), beyond


def _shape_of(pixels: NDArray[np.generic]) -> StampShape:
    channels, height, width = pixels.shape
    return StampShape(channels, height, width, "float32")


def _overlap(centre: int, size: int, length: int) -> tuple[slice, slice]:
    """Return which pixels of an axis a stamp has, and where they are in it; ``centre`` comes to ``size // 2``."""
    start = centre - size // 2
    first, last = max(0, start), min(length, start + size)
    return slice(first, last), slice(first - start, last - start)


class LargeImages:
    """The images of a folder, or one.

    Args:
        path: the folder, or the file.
        how: which extension is meant, and the bands, if each has a file of its own: ``NAME-g.fits``.

    Raises:
        SurveyError: there is none; one cannot be read, or does not say where in the sky it is.
    """

    def __init__(self, path: Path, how: StampSettings) -> None:
        self.path = path
        self.images: list[LargeImage] = []
        #: Files of the folder that are called like no band.
        self.others = 0
        #: Positions that lie equally far from the edge in several images.
        self.ties = 0
        self._worlds: list[list[WorldCoordinates]] = []
        files = _files_in(path)
        named = _by_band(path, files, how.stamp_bands) if how.stamp_bands else {file.name: [file] for file in files}
        self.others = len(files) - sum(map(len, named.values()))
        for name, paths in named.items():
            opened = [_look_at(one, how) for one in paths]
            if how.stamp_bands and any(file.channels != 1 for file, _ in opened):
                raise SurveyError(f"{paths[0]}: an image of several channels, where each band has a file of its own")
            self.images.append(LargeImage(name, tuple(file for file, _ in opened)))
            self._worlds.append([world for _, world in opened])

    @property
    def files(self) -> int:
        """How many there are."""
        return sum(len(image.files) for image in self.images)

    def find(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> list[Cutout | StampError]:
        """Return where the stamp of each position is: on the image in which it lies furthest from the edge.

        Where it lies equally far in several, the first by name has it.

        Args:
            ra: degrees (ICRS).
            dec: degrees.

        Raises:
            SurveyError: what the header of an image says of its place leads nowhere.
        """
        best = np.full(len(ra), -np.inf)
        found: list[Cutout | StampError] = [StampError("source outside of all images")] * len(ra)
        for image, worlds in zip(self.images, self._worlds, strict=True):
            pixels = []
            for file, world in zip(image.files, worlds, strict=True):
                try:
                    pixels.append(world.pixels_of(ra, dec))
                except WorldError as error:
                    raise SurveyError(f"{file.path}: {error}") from None
            margins = np.min([world.margins(at) for world, at in zip(worlds, pixels, strict=True)], axis=0)
            self.ties += int(((margins > 0) & (margins == best)).sum())
            for number in np.flatnonzero((margins > 0) & (margins > best)).tolist():
                centres = tuple(nearest_pixel(at[number]) for at in pixels)
                best[number] = margins[number]
                found[number] = Cutout(image, centres)
        return found


def nearest_pixel(place: NDArray[np.float64]) -> Pixel:
    """Return the pixel that a place, in pixels from the centre of the first one, lies in."""
    return math.floor(place[0] + 0.5), math.floor(place[1] + 0.5)


def _files_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    with os.scandir(path) as entries:
        files = [path / name for name in sorted(entry.name for entry in entries) if split_name(name)[1] in _SUFFIXES]
    if not files:
        raise SurveyError(f"{path}: holds no image ({', '.join(_SUFFIXES)}); point `images` at those to cut from")
    return files


def _by_band(path: Path, files: Sequence[Path], bands: Sequence[str]) -> dict[str, list[Path]]:
    """Return the files of each image, in the order of its channels."""
    images: dict[str, dict[str, Path]] = {}
    for file in files:
        stem = split_name(file.name)[0]
        band = next((band for band in bands if stem.endswith(tuple(joint + band for joint in JOINTS))), None)
        if band is None:
            continue
        of_bands = images.setdefault(stem[: -len(band) - 1], {})
        if band in of_bands:
            raise SurveyError(f"{file}: a second image in the band {band}, beside {of_bands[band].name!r:.80}")
        of_bands[band] = file
    if not images:
        raise SurveyError(f"{path}: holds no image of the bands {', '.join(bands)}; an image is called NAME-BAND.fits")
    for image, of_bands in images.items():
        absent = next((band for band in bands if band not in of_bands), None)
        if absent is not None:
            raise SurveyError(f"{path}: {image!r:.80} has no image in the band {absent}; add it, or remove its others")
    return {image: [of_bands[band] for band in bands] for image, of_bands in sorted(images.items())}


def _look_at(path: Path, how: StampSettings) -> tuple[LargeFile, WorldCoordinates]:
    """Return which image of a file is meant, and where it is in the sky."""
    try:
        check_file(path)
        with warnings.catch_warnings(action="ignore"), path.open("rb") as opened:
            content: Any = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            try:
                if content[:2] == gzipped.MAGIC[:2]:
                    raise StampError("packed by gzip, of which no part can be read alone; unpack it")
                check_header(content, 0)
                with fits.open(path, lazy_load_hdus=True, disable_image_compression=True) as file:
                    number, hdu = find_image(file, content, how.stamp_extension)
                    axes = axes_of(hdu.header)
                    check_data(hdu, len(content))
                    if is_compressed(hdu.header):
                        _check_tile(check_compression(hdu.header))
            finally:
                content.close()
            _check_axes(axes)
            with fits.open(path, memmap=False, lazy_load_hdus=True) as file:
                world = WorldCoordinates(file[number].header, *axes[-2:])
    except (StampError, FitsError, WorldError) as error:
        raise SurveyError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except OSError as error:
        raise SurveyError(f"{path}: cannot be read ({error.strerror or _DAMAGED})") from None
    except Exception as error:
        # A damaged file fails in as many ways as it has cards.
        raise SurveyError(f"{path}: {_DAMAGED} ({' '.join(str(error).split()):.120})") from None
    return LargeFile(path, number, axes), world


def _check_axes(axes: tuple[int, ...]) -> None:
    if len(axes) > 3 or (len(axes) == 3 and axes[0] > MAX_CHANNELS):
        raise StampError(f"image of the axes {list(axes)}, where it has two, or up to {MAX_CHANNELS} channels first")
    if not 1 <= min(axes[-2:]) <= max(axes[-2:]) <= _MOST_PIXELS:
        raise StampError(f"image of {axes[-1]} x {axes[-2]} pixels; at most {_MOST_PIXELS:,} a side are read")


def _check_tile(tile: tuple[int, ...]) -> None:
    if math.prod(tile) * LARGEST_PIXEL > _LARGEST_TILE:
        raise StampError(
            f"image in tiles of {' x '.join(map(str, tile))} pixels, of which each would be unpacked as a whole; "
            "compress it in smaller ones"
        )


class _Opened:
    """A file that is open; one thread reads it at a time."""

    def __init__(self, file: LargeFile) -> None:
        self._lock = threading.Lock()
        self._hdus = fits.open(file.path, memmap=False, lazy_load_hdus=True)
        self._hdu = self._hdus[file.number]
        # Axes of one plane, such as radio images have for the polarisation.
        self._leading = (0,) * (len(self._hdu.shape) - len(file.axes)) + (slice(None),) * (len(file.axes) - 2)
        self._tiles = _Tiles(file) if isinstance(self._hdu, fits.CompImageHDU) else None

    def __del__(self) -> None:
        # A thread may still read what is no longer kept open for the next one.
        if hasattr(self, "_hdus"):
            self._hdus.close()

    def section(self, rows: slice, columns: slice) -> NDArray[np.generic]:
        """Return a part of the image, ``[channels, rows, columns]``."""
        where = (*self._leading, rows, columns)
        with self._lock:
            if self._tiles is not None:
                self._tiles.check(rows, columns)
            part = np.asarray(self._hdu.section[where])
        return part.reshape(-1, *part.shape[-2:])


class _Tiles:
    """The packed tiles of a compressed image, of which each is looked at before astropy unpacks it."""

    def __init__(self, file: LargeFile) -> None:
        with fits.open(file.path, memmap=False, lazy_load_hdus=True, disable_image_compression=True) as hdus:
            hdu = hdus[file.number]
            header, table, place = hdu.header, hdu.data.view(np.ndarray), hdu.fileinfo()["datLoc"]
        count = header["ZNAXIS"]
        self._tile = tuple(header.get(f"ZTILE{axis}", 1) for axis in range(count, 0, -1))
        axes = tuple(header[f"ZNAXIS{axis}"] for axis in range(count, 0, -1))
        self._grid = tuple(-(-axis // tile) for axis, tile in zip(axes, self._tile, strict=True))
        self._by_gzip = [_BY_GZIP] + [_PIXELS] * str(header["ZCMPTYPE"]).startswith("GZIP")
        names = [name for name in (_PIXELS, _BY_GZIP, _UNPACKED) if name in (table.dtype.names or ())]
        # Of each tile, how long it is and where it begins.
        self._places = {name: np.asarray(table[name]) for name in names}
        self._heap = place + header.get("THEAP", header["NAXIS1"] * header["NAXIS2"])
        self._descriptor = os.open(file.path, os.O_RDONLY)
        self._length = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def check(self, rows: slice, columns: slice) -> None:
        """Check that each tile of a part of the image is in the file, and unpacks to no more than a tile has.

        Raises:
            StampError: one does.
        """
        most = math.prod(self._tile) * LARGEST_PIXEL
        ranges = [range(count) for count in self._grid[:-2]]
        for part, tile in zip((rows, columns), self._tile[-2:], strict=True):
            ranges.append(range(part.start // tile, (part.stop - 1) // tile + 1))
        for tile in np.ravel_multi_index(np.meshgrid(*ranges, indexing="ij"), self._grid).ravel().tolist():
            for name, places in self._places.items():
                length, offset = (int(number) for number in places[tile])
                # Room is made for as much as is claimed here before it is read.
                if not (0 <= length <= most and 0 <= self._heap + offset <= self._length - length):
                    raise StampError("damaged stamp")
                if name not in self._by_gzip:
                    continue
                try:
                    gzipped.gunzip(os.pread(self._descriptor, length, self._heap + offset), at_most=most)
                except gzipped.GzipError:
                    raise StampError("damaged stamp") from None


_files: OrderedDict[tuple[Any, ...], _Opened] = OrderedDict()
_files_lock = threading.Lock()


def _opened(file: LargeFile) -> _Opened:
    """Return ``file``, open; of this process, those that were asked for last stay so."""
    status = file.path.stat()
    key = (file, status.st_ino, status.st_size, status.st_mtime_ns)
    with _files_lock:
        opened = _files.pop(key, None) or _Opened(file)
        _files[key] = opened
        while len(_files) > _OPEN_FILES:
            _files.popitem(last=False)
    return opened
