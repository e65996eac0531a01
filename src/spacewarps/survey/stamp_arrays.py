"""One array with all stamps, ``[stamps, height, width]`` or with channels, in HDF5, Zarr, FITS or NumPy."""

import functools
import hashlib
import mmap
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from spacewarps.errors import SurveyError
from spacewarps.reading import check_file
from spacewarps.survey.fits_blocks import FitsError, check_header, hdus_in
from spacewarps.survey.hdf5_arrays import MAGIC as HDF5
from spacewarps.survey.hdf5_arrays import read_hdf5
from spacewarps.survey.images import StampError, StampShape, check_channels
from spacewarps.survey.number_arrays import ArrayError, Layout, NumberArray, Scaling, check_layout
from spacewarps.survey.numbers import NO_VALUE
from spacewarps.survey.numpy_images import HEADERS
from spacewarps.survey.pixels import as_pixels, shape_of_axes
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamps import Decoded, Inspected, faults_of_a_reader, fitted
from spacewarps.survey.zarr_arrays import is_zarr, read_zarr

_FITS = b"SIMPLE  ="
_NUMPY = np.lib.format.MAGIC_PREFIX
_HEAD = 16
_WHOLE = re.compile(r"\+?\d{1,18}(\.0*)?")
_BELOW_ZERO = re.compile(r"[-\N{MINUS SIGN}]\d+(\.0*)?")
_BITS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


def holds_an_array(path: Path) -> bool:
    """Say whether ``path`` is no folder of stamps: a file, or a folder that Zarr wrote."""
    return path.is_file() or is_zarr(path)


class StampArray:
    """The array of all stamps in a file.

    Args:
        file: the file.
        how: the name of the array, and where its channels are.
        id_column: the catalogue's name for the id, which HDF5 has ids under, if it is they that name the rows.

    Raises:
        SurveyError: the file cannot be read, or holds no array of stamps.
    """

    def __init__(self, file: Path, how: StampSettings, id_column: str) -> None:
        self.file, self._how, self._id_column = file, how, id_column
        by_id = how.stamp_index is None
        try:
            layout, self.ids = _read(file, how.stamp_extension, id_column if by_id else None)
            check_layout(layout, file.stat().st_size)
            self.shape, self._channels_last = _shape(layout, how.stamp_channels)
            self._array = NumberArray(file, layout)
        except OSError as error:
            raise SurveyError(f"{file}: cannot be read ({error.strerror})") from None
        except (ArrayError, FitsError, StampError) as error:
            raise SurveyError(f"{file}: {error}") from None
        self.rows = layout.shape[0]
        if by_id and (self.ids is None or len(self.ids) != self.rows):
            what = "no ids" if self.ids is None else f"{len(self.ids)} ids for {self.rows} stamps"
            raise SurveyError(
                f"{file}: holds {what}; name the catalogue's column with the row of each stamp by `stamp_index`"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens the file itself, and once.
        return _opened, (self.file, self._how, self._id_column)

    def numbers(self, row: int) -> NDArray[np.generic]:
        """Return the stamp in ``row`` as it is stored, with its channels first and NaN where there is no number.

        Raises:
            StampError: it is damaged, or was never written.
        """
        numbers = self._array.numbers(row)
        return np.moveaxis(numbers, -1, 0) if self._channels_last else numbers

    def stored(self, row: int) -> NDArray[np.generic]:
        """Return the stamp in ``row`` as it is stored."""
        return self._array.row(row)

    def find(self, ids: Sequence[str], indices: Sequence[str]) -> "dict[str, Row | StampError]":
        """Return where the stamp of each id is, or why it has none.

        Args:
            ids: of the samples.
            indices: the row of each, as the catalogue has it; of no use where the file has ids.
        """
        if self.ids is not None:
            return {key: self._row(found) for key, found in _by_id(ids, self.ids).items()}
        wanted = {key: _index(text, self.rows) for key, text in zip(ids, indices, strict=True)}
        count = Counter(index for index in wanted.values() if isinstance(index, int))
        return {
            # Which of the ids is right cannot be known.
            key: StampError("index of several ids") if count[index] > 1 else self._row(index)  # type: ignore[index]
            for key, index in wanted.items()
        }

    def _row(self, found: int | StampError) -> "Row | StampError":
        return found if isinstance(found, StampError) else Row(self, found)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an array of stamps; see :class:`~spacewarps.survey.stamps.Place`."""

    array: StampArray
    number: int

    @property
    def file(self) -> Path:
        """The file of the array."""
        return self.array.file

    @property
    def order(self) -> tuple[Any, ...]:
        """That of the rows."""
        return (self.number,)

    def inspect(self, _how: StampSettings) -> Inspected:
        """Return the shape of all stamps, and the digest of this one as it is stored."""
        stored = np.ascontiguousarray(self.array.stored(self.number))
        return Inspected(self.array.shape, hashlib.blake2b(stored.tobytes(), digest_size=16).hexdigest())

    def decode(self, shape: StampShape, how: StampSettings) -> Decoded:
        """Return the stamp."""
        own = self.array.shape
        check_channels(own.channels, shape.channels)
        with faults_of_a_reader():
            pixels = as_pixels(self.array.numbers(self.number), own)
        return fitted(pixels, shape, how)


@functools.lru_cache(maxsize=2)
def _opened(file: Path, how: StampSettings, id_column: str) -> StampArray:
    return StampArray(file, how, id_column)


def _index(text: str, rows: int) -> int | StampError:
    """Return the row that a cell of the catalogue names."""
    if text.lower() in NO_VALUE:
        return StampError("no index of a stamp")
    if _BELOW_ZERO.fullmatch(text):
        return StampError("index below 0")
    if not _WHOLE.fullmatch(text):
        return StampError("index that is not a whole number")
    index = int(text.partition(".")[0])
    # The first row is 0, as in all that can have written the file.
    return index if index < rows else StampError(f"index beyond the last row of the array, {rows - 1}")


def _by_id(ids: Sequence[str], there: Sequence[str]) -> Mapping[str, int | StampError]:
    """Return the row of each id."""
    rows: dict[str, int | StampError] = {}
    for row, key in enumerate(unicodedata.normalize("NFC", name).strip() for name in there):
        rows[key] = StampError("several stamps") if key in rows else row
    return {key: rows.get(key, StampError("no stamp")) for key in ids}


def _read(file: Path, extension: int | str | None, ids: str | None) -> tuple[Layout, list[str] | None]:
    """Return how the array in ``file`` lies there, and the ids that stand beside it."""
    name = "" if extension is None else str(extension)
    if is_zarr(file):
        return read_zarr(file, name, ids)
    check_file(file)
    with file.open("rb") as opened:
        start = opened.read(_HEAD)
    if start.startswith(HDF5):
        return read_hdf5(file, name, ids)
    if start.startswith(_NUMPY):
        return _numpy_layout(file), None
    if start.startswith(_FITS):
        return _fits_layout(file, extension), None
    raise ArrayError(
        "neither a folder of stamps nor an array of them in HDF5, Zarr, FITS or NumPy (.npy), unpacked; point `images` "
        "at one"
    )


def _shape(layout: Layout, channels: str | None) -> tuple[StampShape, bool]:
    """Return the shape of a stamp, and whether its channels are the last axis."""
    axes, is_last = layout.shape[1:], False
    if len(axes) == 3:
        if channels is None and axes[0] >= axes[2]:
            raise ArrayError(
                f"array of the shape {list(layout.shape)}; which axis has the channels? say first or last by "
                "`stamp_channels`"
            )
        if channels == "last":
            axes, is_last = (axes[2], axes[0], axes[1]), True
    plain = layout.dtype.kind == "b" or (layout.dtype == np.uint8 and layout.scaling == Scaling())
    return shape_of_axes(axes, "uint8" if plain else "float32"), is_last


def _numpy_layout(file: Path) -> Layout:
    with file.open("rb") as opened:
        try:
            read_header = HEADERS[np.lib.format.read_magic(opened)]
            shape, is_fortran, dtype = read_header(opened)
        except Exception:
            # The header is an expression of Python, which is read but never run.
            raise ArrayError("damaged NumPy array, or none of numbers") from None
        if is_fortran:
            raise ArrayError("NumPy array in the order of Fortran; write it again by np.ascontiguousarray")
        return Layout(dtype, shape, offset=opened.tell())


def _fits_layout(file: Path, extension: int | str | None) -> Layout:
    """Return how the only image of three or four axes lies in a FITS file, or the one of that number or name."""
    with warnings.catch_warnings(action="ignore"), file.open("rb") as opened:
        content: Any = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            check_header(content, 0)
            with fits.open(file, lazy_load_hdus=True, disable_image_compression=True) as hdus:
                found = {number: _fits_image(hdu) for number, hdu in enumerate(hdus_in(hdus, content))}
        except (ArrayError, FitsError, MemoryError):
            raise
        except Exception as error:
            # A damaged header fails in as many ways as it has cards.
            raise ArrayError(f"damaged FITS ({' '.join(str(error).split()):.120})") from None
        finally:
            content.close()
    images = {number: image for number, image in found.items() if image and _is_meant(number, image[0], extension)}
    if len(images) != 1:
        which = "" if extension is None else f" in the extension {extension!r:.80}"
        raise ArrayError(
            f"FITS with {len(images)} arrays of three or four axes{which}, of which one is read; unpack what is packed "
            "in tiles, and name one by `stamp_extension`"
        )
    ((_, layout),) = images.values()
    return layout


def _is_meant(number: int, name: str, extension: int | str | None) -> bool:
    return extension in (None, number) or (isinstance(extension, str) and name.upper() == extension.upper())


def _fits_image(hdu: Any) -> tuple[str, Layout] | None:
    """Return the name of a part of a FITS file, and how its array lies there; nothing if it is no array of stamps."""
    header = hdu.header
    if str(header.get("XTENSION", "IMAGE")).strip() != "IMAGE" or header.get("NAXIS") not in (3, 4):
        return None
    shape = tuple(int(header[f"NAXIS{axis}"]) for axis in range(header["NAXIS"], 0, -1))
    blank = header.get("BLANK")
    scaling = Scaling(
        float(header.get("BSCALE", 1)), float(header.get("BZERO", 0)), None if blank is None else int(blank)
    )
    dtype = np.dtype(_BITS[header["BITPIX"]])
    if dtype.kind == "f":
        scaling = Scaling(scaling.scale, scaling.zero)
    return str(hdu.name), Layout(dtype, shape, offset=int(hdu.fileinfo()["datLoc"]), scaling=scaling)
