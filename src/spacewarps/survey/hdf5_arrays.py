"""HDF5: where the rows of an array lie in the file, asked of the library in a process of its own."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from spacewarps.survey.number_arrays import ArrayError, ChunkTable, Layout

MAGIC = b"\x89HDF\r\n\x1a\n"
# Filters from elsewhere are code.
_NO_PLUGINS = {"HDF5_PLUGIN_PATH": "", "HDF5_PLUGIN_PRELOAD": "::"}
# The table of an array's chunks takes a second for a million of them.
_SECONDS, _BYTES_A_SECOND = 3, 10**8


def read_hdf5(file: Path, array: str, ids: str | None) -> tuple[Layout, list[str] | None]:
    """Return how the array in ``file`` lies there, and the ids that stand beside it.

    Args:
        file: the file.
        array: the name of the array; empty for the only one.
        ids: the name of the ids beside it, if they are wanted.

    Raises:
        ArrayError: h5py is not installed; the file is damaged, or holds no such array.
    """
    try:
        # Only here, as h5py need not be installed.
        from spacewarps.survey import hdf5_reporter
    except ImportError:
        raise ArrayError("HDF5, which is read by h5py; install it by pip install 'spacewarps[hdf5]'") from None
    seconds = _SECONDS + file.stat().st_size // _BYTES_A_SECOND
    # The folder of this module has files that are called as the standard library's; -P keeps them out of its way.
    command = [sys.executable, "-P", hdf5_reporter.__file__, str(file.resolve()), array, ids or "", str(seconds)]
    environment = os.environ | _NO_PLUGINS
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10 * seconds, env=environment)
    except subprocess.TimeoutExpired:
        raise ArrayError(f"damaged HDF5 (reading what it holds takes more than {seconds} s)") from None
    try:
        with np.load(io.BytesIO(done.stdout), allow_pickle=False) as answer:
            found = {name: answer[name] for name in answer.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise ArrayError("damaged HDF5 (the process that read what it holds has ended)") from None
    if "fault" in found:
        raise ArrayError(str(found["fault"]))
    layout = _layout(json.loads(str(found["about"])), found.get("chunks"))
    return layout, json.loads(found["ids"].tobytes()) if "ids" in found else None


def _layout(about: dict[str, Any], table: Any) -> Layout:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    if table is None:
        return Layout(dtype, shape, offset=about["offset"])
    numbers, offsets, sizes, skipped = (np.ascontiguousarray(column) for column in table.T)
    chunks = ChunkTable(tuple(about["chunk"]), tuple(about["filters"]), numbers, offsets, sizes, skipped)
    return Layout(dtype, shape, chunks=chunks)
