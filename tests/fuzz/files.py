"""Sound files of every format that is read, and what damages them."""

import gzip
import io
import json
from collections.abc import Mapping
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits, votable
from astropy.table import Table
from PIL import Image
from pyarrow import ipc

from tests.survey.array_files import in_hdf5
from tests.survey.sky import gradient, image, world
from tests.survey.stamp_files import in_fits, in_npy, in_npz, in_tiles

SIDE = 12
POSITION = (10.0, 20.0)
IDS = ["1237660025035096479", "1030562009227331788", "42"]
_ROWS = {
    "id": [int(key) for key in IDS],
    "class": ["STAR", "QSO", "GALAXY"],
    "ra": [10.5, 11.25, 300.0],
    "dec": [-20.0, 21.0, 0.0],
    "z": [0.0, 2.5, 0.1],
}
# What a length, an offset or a size is often mistaken for.
_TELLING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF]


def sound_stamps() -> dict[str, bytes]:
    """Return a small stamp in each format, by the suffix that its reader goes by."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    pixels = rng.normal(100, 10, (3, SIDE, SIDE)).astype(np.float32)
    pixels[0, 0, 0] = np.nan
    found = {}
    for suffix, kind in {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP"}.items():
        file = io.BytesIO()
        Image.fromarray(grey).save(file, kind)
        found[suffix] = file.getvalue()
    file = io.BytesIO()
    pages = [Image.fromarray(channel) for channel in pixels]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    found[".tif pages"] = file.getvalue()
    found[".fits"] = in_fits(pixels)
    found[".fits.gz"] = gzip.compress(found[".fits"], mtime=0)
    found[".fits.fz"] = in_tiles(pixels[0], tile_shape=(4, SIDE))
    found[".npy"] = in_npy(pixels)
    found[".npz"] = in_npz(stamp=pixels, mask=pixels > 110)
    return found


def sound_arrays() -> dict[str, bytes]:
    """Return an array of three stamps in each format, by its suffix."""
    stamps = np.random.default_rng(1).normal(100, 10, (3, SIDE, SIDE)).astype(np.float32)
    numbers = [int(key) for key in IDS]
    return {
        ".hdf5 array": in_hdf5(stamps, IDS),
        ".hdf5 chunks": in_hdf5(stamps, numbers, chunks=(2, 7, 9), compression="gzip", shuffle=True, fletcher32=True),
        ".npy array": in_npy(stamps),
        ".fits array": in_fits(stamps.astype(np.uint16)),
    }


def sound_stores() -> dict[str, bytes]:
    """Return a file of a folder that Zarr writes, by its suffix and its place there."""
    chunk = np.random.default_rng(1).normal(100, 10, (2, SIDE, SIDE)).astype(np.float32)
    return {
        ".json zarr": described_zarr("zstd"),
        ".zstd zarr": bytes(numcodecs.Zstd().encode(chunk)),
        ".blosc zarr": bytes(numcodecs.Blosc().encode(chunk)),
    }


def described_zarr(codec: str) -> bytes:
    """Return the description of an array of three stamps in chunks of two."""
    about = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [3, SIDE, SIDE],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, SIDE, SIDE]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": codec}],
        "fill_value": 0.0,
    }
    return json.dumps(about).encode()


def sound_images() -> dict[str, bytes]:
    """Return an image of the sky in each form, by its suffix; :data:`POSITION` lies on it."""
    side = 4 * SIDE
    header = world(side, *POSITION, A_ORDER=2, B_ORDER=2, A_2_0=1e-4, CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP")
    return {
        ".fits sky": image(gradient(side), header),
        ".fz sky": image(gradient(side), header, compression_type="GZIP_1", quantize_level=0, tile_shape=(8, 8)),
        ".fz rice": image(gradient(side), header, compression_type="RICE_1", tile_shape=(1, side)),
        ".fits centred": image(gradient(side), header),
    }


def sound_catalogues() -> dict[str, bytes]:
    """Return a catalogue of three rows in each format, by its suffix."""
    table = Table(_ROWS)
    table["ra"].unit = table["dec"].unit = "deg"
    binary, parquet, plain, packed = (io.BytesIO() for _ in range(4))
    ecsv = io.StringIO()
    table.write(ecsv, format="ascii.ecsv")
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table)]).writeto(binary)
    pq.write_table(pa.table(_ROWS), parquet)
    votable.from_table(table).to_xml(plain)
    votable.from_table(table).to_xml(packed, tabledata_format="binary2")
    lines = [",".join(_ROWS), *(",".join(map(str, row)) for row in zip(*_ROWS.values(), strict=True))]
    text = ("\n".join(lines) + "\n").encode()
    return {
        ".csv": text,
        ".csv.gz": gzip.compress(text, mtime=0),
        ".csv utf-16": text.decode().encode("utf-16"),
        ".csv utf-32": text.decode().encode("utf-32"),
        ".csv windows": text.replace(b"STAR", b"\xc9toile"),
        ".dat": text.replace(b",", b"   "),
        ".ecsv": ecsv.getvalue().encode(),
        ".fits table": binary.getvalue(),
        ".parquet": parquet.getvalue(),
        ".arrow": in_arrow(_ROWS),
        ".arrow stream": in_arrow(_ROWS, is_file=False),
        ".arrow packed": in_arrow(_ROWS, compression="zstd"),
        ".feather": in_arrow({**_ROWS, "class": pa.array(_ROWS["class"]).dictionary_encode()}, compression="lz4"),
        ".vot": plain.getvalue(),
        ".vot utf-16": plain.getvalue().decode().replace("utf-8", "utf-16").encode("utf-16"),
        ".vot binary": packed.getvalue(),
    }


def in_arrow(columns: Mapping[str, Any] | pa.Table, *, is_file: bool = True, compression: str | None = None) -> bytes:
    """Return a table in the IPC format of Arrow, two rows a batch."""
    file = io.BytesIO()
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    options = ipc.IpcWriteOptions(compression=compression)
    with (ipc.new_file if is_file else ipc.new_stream)(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return file.getvalue()


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Return ``content`` with one to six faults: bits, bytes, lengths and slices that are others, gone or doubled."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 7))):
        if not data:
            break
        start = int(rng.integers(len(data)))
        length = min(len(data) - start, 2 ** int(rng.integers(0, 10)))
        match int(rng.integers(7)):
            case 0:
                data[start] ^= 1 << int(rng.integers(8))
            case 1:
                data[start : start + length] = rng.bytes(length)
            case 2:
                size = 2 ** int(rng.integers(0, 4))
                value = _TELLING[int(rng.integers(len(_TELLING)))] & (1 << 8 * size) - 1
                data[start : start + size] = value.to_bytes(size, "big" if rng.integers(2) else "little")
            case 3:
                del data[start : start + length]
            case 4:
                data[start:start] = data[start : start + length]
            case 5:
                del data[start:]
            case 6:
                # Headers of text name sizes in digits.
                digits = [place for place in range(min(len(data), 8192)) if 48 <= data[place] <= 57]
                if digits:
                    data[digits[int(rng.integers(len(digits)))]] = int(rng.integers(48, 58))
    return bytes(data)


def generator_of(seed: int, kind: str, number: int) -> np.random.Generator:
    """Return the generator of one damaged file."""
    return np.random.default_rng([seed, number, *kind.encode()])
