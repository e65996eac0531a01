"""Files with an array of all stamps, as h5py, NumPy and astropy write them."""

import io
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

SIDE = 8


def stamps_of(count: int, *axes: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    """Return so many stamps, each of its own numbers."""
    shape = (count, *(axes or (SIDE, SIDE)))
    numbers = np.random.default_rng(count).normal(100, 20, shape)
    return numbers.astype(dtype)


def in_hdf5(pixels: Any, ids: Sequence[str] | Any = None, name: str = "stamps", **options: Any) -> bytes:
    """Return an HDF5 file with ``pixels`` under ``name``, and ``ids`` beside them."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.create_dataset(name, data=pixels, **options)
        if ids is not None:
            parent = name.rpartition("/")[0]
            root.create_dataset(f"{parent}/id" if parent else "id", data=ids)
    return file.getvalue()
