"""What a file is that is no picture that can be read, told from its first bytes."""

from spacewarps.survey import tiff

_SAVE_AS = "save it as FITS, NumPy, PNG, JPEG, or TIFF of float32"
# What is read under a suffix of its own.
_SUFFIXES = {"FITS": ".fits", "NumPy": ".npy"}

# The offset of the bytes that tell a format, the bytes, and what people call it.
_PICTURES = (
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"II\xbc", "JPEG XR"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"CDF", "netCDF"),
    (0, b"#ASDF", "ASDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (128, b"DICM", "DICOM"),
    (0, b"P2", "PGM"),
    (0, b"P5", "PGM"),
    (0, b"P3", "PPM"),
    (0, b"P6", "PPM"),
    (0, b"%!PS", "PostScript"),
    (0, b"%PDF", "PDF"),
)
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"PK\x03\x04", "ZIP"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DAMAGED = (b"\x89PNG", b"\xff\xd8\xff", b"BM")
_TEXT = frozenset(range(32, 127)) | set(b"\t\n\r\f")
_HEAD = 512


def describe_foreign(content: bytes, expected: str) -> str:
    """Return what ``content`` is, whose suffix says that it is in the format ``expected``."""
    pictures = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", **dict.fromkeys(_TIFF, "TIFF")}
    for magic, name in pictures.items():
        if content.startswith(magic):
            return f"stamp in the format {name} under a suffix of {expected}; give it its own"
    reason = describe_unopened(content)
    return "damaged stamp" if f"the format {expected};" in reason else reason


def describe_unopened(content: bytes) -> str:
    """Return why ``content``, which could not be opened as a picture, is no stamp, and what can be done about it."""
    for offset, magic, name in _PICTURES:
        if content.startswith(magic, offset):
            advice = f"name it {_SUFFIXES[name]}" if name in _SUFFIXES else _SAVE_AS
            return f"stamp in the format {name}; {advice}"
    for magic, name in _PACKED:
        if content.startswith(magic):
            return f"stamp that is packed as {name}; unpack it"
    if content.startswith(_TIFF):
        return tiff.describe_unopened(content)
    if content.startswith(_DAMAGED):
        return "damaged stamp"
    if not content.strip(b"\0"):
        return "stamp file of zero bytes alone"
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    if not _TEXT.issuperset(head):
        return "stamp that is not an image"
    start = head.lstrip().lower()
    if b"<svg" in start:
        return f"stamp in the format SVG; {_SAVE_AS}"
    if start.startswith((b"<!doctype html", b"<html")):
        return "stamp that is an HTML page, such as a server sends in place of a picture; fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "stamp that is a pointer of Git LFS; fetch the picture with git lfs pull"
    return "stamp that is a text file"
