"""What one image file is, and its pixels: every bit of every channel, or the reason why not."""

import errno
import io
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from spacewarps.survey import tiff
from spacewarps.survey.formats import describe_unopened
from spacewarps.survey.settings import MAX_CHANNELS, MAX_SIDE
from spacewarps.survey.tiff import TiffError

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
# No stamp of that size takes more: four channels of four bytes, uncompressed, and room for a header.
MAX_BYTES = MAX_SIDE**2 * 4 * 4 + 2**20
# Augmentation sums the squares of a stamp's pixels in float32, which ends at 3.4e38: the largest stamp has 4.2e6 of
# them. Nothing that was observed comes near; values beyond are codes for "no data".
MAX_PIXEL = 1e15
TOO_MANY_CHANNELS = f"stamp of more than {MAX_CHANNELS} channels"
# Every integer up to here, and not every one beyond, is a float32.
_MAX_INTEGER = 2**24

# Pillow's modes that become channels without loss: how many, and the type of a pixel.
_TARGETS = {
    "1": (1, "uint8"),
    "L": (1, "uint8"),
    "LA": (1, "uint8"),
    "La": (1, "uint8"),
    "P": (3, "uint8"),
    "RGB": (3, "uint8"),
    "RGBA": (3, "uint8"),
    "I;16": (1, "float32"),
    "I;16B": (1, "float32"),
    "I": (1, "float32"),
    "F": (1, "float32"),
}
_WITH_ALPHA = ("LA", "La", "RGBA")
_FAULTS_OF_A_FILE = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
}
# By the colour type of a PNG's header.
_PNG_LOSES_16_BITS = {2: "RGB", 4: "grey with alpha", 6: "RGB with alpha"}


class StampError(Exception):
    """One stamp cannot be used; the message is the reason, as the audit counts it."""


@dataclass(frozen=True, slots=True)
class StampShape:
    """What all stamps of a survey have in common: ``[channels, height, width]`` and the type of a pixel."""

    channels: int
    height: int
    width: int
    dtype: str


def read_stamp(file: Path) -> bytes:
    """Return the content of ``file``.

    Raises:
        StampError: it is no file that a stamp could be in.
    """
    try:
        status = file.stat()
        # A pipe or a device might never come to an end.
        if not stat.S_ISREG(status.st_mode):
            raise StampError("stamp that is not a file")
        if status.st_size > MAX_BYTES:
            raise StampError("stamp of absurd size")
        content = file.read_bytes()
    except OSError as error:
        # What the machine is short of, or a disk that fails, is no fault of this file.
        if error.errno not in _FAULTS_OF_A_FILE:
            raise
        raise StampError("stamp that cannot be read") from None
    if not content:
        raise StampError("empty stamp file")
    return content


@dataclass(frozen=True)
class PictureReader:
    """Reads pictures.

    Args:
        extension: of a TIFF with several pages, the number of the one that is the stamp, from 0; without it, each page
            is a channel.
    """

    extension: int | str | None = None

    def shape_of(self, content: bytes) -> StampShape:
        """Return what ``content`` says of its picture, without decoding it.

        A picture with a palette, and one in WebP, which knows no grey, has one channel if all of its colours are grey.

        Raises:
            StampError: it is no picture, or one that would not come out as it is.
        """
        with self._opened(content) as (image, pages):
            channels, dtype = _TARGETS[image.mode]
            if (image.mode == "P" or image.format == "WEBP") and _is_grey(_load(image)):
                channels = 1
            return StampShape(max(channels, len(pages)), image.height, image.width, dtype)

    def decode(self, content: bytes, channels: int) -> NDArray[np.generic]:
        """Return the picture in ``content`` as ``[channels, height, width]``, uint8 or float32.

        A grey picture is repeated in three channels, and of three that are equal one is taken; not so pages.

        Raises:
            StampError: it is damaged, or has colours where one channel is asked for.
        """
        with self._opened(content) as (image, pages):
            if len(pages) > 1:
                check_channels(len(pages), channels)
                return np.stack([_load(page) for page in _each(image, pages)])
            pixels = _load(image)
        if pixels.ndim == 2:
            return np.repeat(pixels[None], channels, axis=0)
        if channels == 1:
            if not _is_grey(pixels):
                raise StampError("colour stamp among grey ones")
            pixels = pixels[..., :1]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    @contextmanager
    def _opened(self, content: bytes) -> Iterator[tuple[Image.Image, Sequence[int]]]:
        """Open a picture without decoding it, at the first of its pages that are read; refuse what is not a stamp."""
        with _open(content) as image:
            try:
                pages = self._pages(image, content)
                for page in _each(image, pages):
                    _check(page, content)
                _check_alike(image, pages)
            except (StampError, MemoryError):
                raise
            except TiffError as error:
                raise StampError(str(error)) from None
            except Exception:
                # As below: a damaged page fails in as many ways as a damaged picture.
                raise StampError("damaged stamp") from None
            yield image, pages

    def _pages(self, image: Image.Image, content: bytes) -> Sequence[int]:
        """Return the numbers of the pages that are read."""
        pages = tiff.pages_of(image, content) if isinstance(image, TiffImageFile) else [0]
        # As everywhere, a file with one image needs no number of it, and has it whatever that of others is.
        if len(pages) == 1 or self.extension is None:
            return pages
        if self.extension not in pages:
            raise StampError(f"TIFF without the page {self.extension!r:.80}; its pages are numbered, from 0")
        return [int(self.extension)]


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise StampError("stamp of absurd size") from None
    except MemoryError:
        raise
    except Exception:
        # Pillow's readers raise nearly anything on hostile bytes; whatever it is, the file is no image.
        raise StampError(describe_unopened(content)) from None


def _each(image: Image.Image, pages: Sequence[int]) -> Iterator[Image.Image]:
    """Yield ``image`` at each of ``pages``."""
    for page in pages:
        if image.tell() != page:
            image.seek(page)
        yield image


def _check(image: Image.Image, content: bytes) -> None:
    """Check that the page that ``image`` is at can be a stamp.

    Raises:
        StampError: it cannot.
    """
    if max(image.size) > MAX_SIDE or min(image.size) < 1:
        raise StampError("stamp of absurd size")
    reason = _describe_loss(image, content)
    if reason:
        raise StampError(reason)


def _check_alike(image: Image.Image, pages: Sequence[int]) -> None:
    """Check that ``pages`` can be the channels of one stamp, and leave ``image`` at the first of them.

    Raises:
        StampError: they cannot.
    """
    if len(pages) == 1:
        return
    if len(pages) > MAX_CHANNELS:
        raise StampError(TOO_MANY_CHANNELS)
    kinds = []
    for page in _each(image, pages):
        assert isinstance(page, TiffImageFile)
        if _TARGETS[page.mode][0] != 1:
            raise StampError(
                f"TIFF of {len(pages)} pages in colour, where each is a channel; save one channel a page, or name one "
                "page by `stamp_extension`"
            )
        kinds.append(f"{page.width} x {page.height} pixels of {tiff.sample_type(page.tag_v2)}")
    others = [kind for kind in kinds if kind != kinds[0]]
    if others:
        raise StampError(
            f"TIFF of pages that differ ({kinds[0]}, and {others[0]}), where each is a channel; save pages of one size "
            "and type, or name one page by `stamp_extension`"
        )
    image.seek(pages[0])
    if len(pages) * image.width * image.height * np.dtype(_TARGETS[image.mode][1]).itemsize > MAX_BYTES:
        # What is packed, and pages that are the same bytes, take more memory than file.
        raise StampError("stamp of absurd size")


def _describe_loss(image: Image.Image, content: bytes) -> str | None:
    """Return why the pixels of ``image`` would not come out as they are, if so."""
    if isinstance(image, TiffImageFile):
        reason = tiff.describe_loss(image.tag_v2)
        if reason:
            return reason
    elif getattr(image, "n_frames", 1) > 1:
        return "stamp of several pictures, of which one would be read; save one picture a file"
    if image.format == "PNG":
        # The standard asks for the header to come first; Pillow does not.
        if content[12:16] != b"IHDR":
            return "damaged stamp"
        depth, colours = content[24:26]
        if depth == 16 and colours in _PNG_LOSES_16_BITS:
            return (
                f"PNG of 16-bit {_PNG_LOSES_16_BITS[colours]}, of which only 8 bits can be read; "
                "save RGB of 8 bits, or one channel of 16"
            )
    if image.mode == "CMYK":
        return "stamp in CMYK, which has no exact RGB; save it as RGB"
    if image.mode not in _TARGETS:
        return f"stamp in the colour mode {image.mode}; save it as grey or RGB"
    return None


def _load(image: Image.Image) -> NDArray[np.generic]:
    """Return the pixels of an image, ``[height, width]`` or ``[height, width, 3]``."""
    try:
        image.load()
        return _pixels(image)
    except (StampError, MemoryError):
        raise
    except Exception:
        # As above: a damaged body fails in as many ways as there are decoders.
        raise StampError("damaged stamp") from None


def _pixels(image: Image.Image) -> NDArray[np.generic]:
    picture: Image.Image = image
    if image.mode == "1":
        picture = image.convert("L")
    elif image.mode == "P":
        picture = image.convert("RGBA" if "transparency" in image.info else "RGB")
    pixels = np.asarray(picture)
    # A value that a PNG names as transparent is not lost: it is what the pixel holds.
    if picture.mode in _WITH_ALPHA:
        if (pixels[..., -1] != np.iinfo(np.uint8).max).any():
            raise StampError("stamp with transparent pixels, which would be lost; save it without an alpha channel")
        pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :-1]
    if isinstance(image, TiffImageFile) and tiff.sample_type(image.tag_v2) == "uint32":
        # Pillow has no mode for it, and takes the bits for those of int32.
        pixels = pixels.view(np.uint32)
    check_integers(pixels)
    return pixels.astype(_TARGETS[image.mode][1], copy=False)


def check_integers(pixels: NDArray[np.generic]) -> None:
    """Check that float32 holds every pixel, if they are integers.

    Raises:
        StampError: it does not.
    """
    if pixels.dtype.kind not in "iu" or pixels.dtype.itemsize <= 2 or not pixels.size:
        return
    # The absolute value of the lowest integer is no integer of its type.
    if max(-int(pixels.min()), int(pixels.max())) > _MAX_INTEGER:
        raise StampError(
            f"stamp with integer pixels beyond {_MAX_INTEGER}, which float32 may not hold; save them as float32"
        )


def check_channels(found: int, wanted: int) -> None:
    """Check that a stamp of measured bands has as many as are wanted: none can be made up.

    Raises:
        StampError: it has not.
    """
    if found != wanted:
        raise StampError(f"stamp of {found} channels, where {wanted} are wanted")


def check_range(pixels: NDArray[np.generic]) -> None:
    """Check that pixels, which are finite, are small enough to be squared.

    Raises:
        StampError: one is not.
    """
    if np.abs(pixels).max() > MAX_PIXEL:
        raise StampError(
            f"stamp with pixels beyond {MAX_PIXEL:g}, which overflow when squared; give them NaN if they mean that "
            "there is none"
        )


def _is_grey(colours: NDArray[np.generic]) -> bool:
    """Say whether red, green and blue, along the last axis, are equal everywhere."""
    return bool((colours == colours[..., :1]).all())
