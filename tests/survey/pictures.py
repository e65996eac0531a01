"""Pictures as files hold them, and why one is refused."""

import io
from typing import Any

from PIL import Image

from spacewarps.survey.images import PictureReader, StampError
from tests.complaints import complaint

shape_of, decode = PictureReader().shape_of, PictureReader().decode


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def why_refused(content: bytes) -> str:
    """Return why an image is refused before it is decoded, and when it is."""
    told = complaint(StampError, shape_of, content)
    assert complaint(StampError, decode, content, 1) == told
    return told
