import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from spacewarps.survey.formats import describe_unopened

SAVE_AS = "; save it as FITS, NumPy, PNG, JPEG, or TIFF of float32"
GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def picture(image_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, image_format)
    return file.getvalue()


def flexible_image() -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(GREY).writeto(file)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, GREY)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (picture("GIF"), "GIF"),
        (picture("JPEG2000"), "JPEG 2000"),
        (picture("AVIF"), "AVIF"),
        (picture("PPM"), "PGM"),
        (picture("EPS"), "PostScript"),
        (picture("PDF"), "PDF"),
        (flexible_image(), "FITS"),
        (array(), "NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(88), "HDF5"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)
def test_pictures_of_other_formats_are_called_by_their_names(content: bytes, found: str) -> None:
    advice = {"FITS": "; name it .fits", "NumPy": "; name it .npy"}.get(found, SAVE_AS)
    assert describe_unopened(content) == f"stamp in the format {found}{advice}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(picture("PNG"), mtime=0), "stamp that is packed as gzip; unpack it"),
        (
            b"\xef\xbb\xbf\n<!DOCTYPE html><html><title>404</title></html>",
            "stamp that is an HTML page, such as a server sends in place of a picture; fetch it again",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            "stamp that is a pointer of Git LFS; fetch the picture with git lfs pull",
        ),
        (b"no image", "stamp that is a text file"),
        (bytes(1000), "stamp file of zero bytes alone"),
        (picture("PNG")[:20], "damaged stamp"),
        (picture("JPEG")[:20], "damaged stamp"),
        (picture("BMP")[:20], "damaged stamp"),
        (b"\x01\x02 no text", "stamp that is not an image"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(content: bytes, reason: str) -> None:
    assert describe_unopened(content) == reason
