"""Each reader asked for a damaged file, as `prepare` and `predict` ask it, and what it does beside refusing."""

import os
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Never

import numpy as np

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.centred_stamps import CentredStamp
from spacewarps.survey.columns import Columns
from spacewarps.survey.images import StampError
from spacewarps.survey.large_images import Cutout, LargeImages
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamp_arrays import Row, StampArray
from spacewarps.survey.stamps import Inspected, Place, decode_stamps, fitted_shape, inspect_stamps
from tests.fuzz.files import (
    IDS,
    POSITION,
    SIDE,
    damage,
    described_zarr,
    generator_of,
    sound_arrays,
    sound_catalogues,
    sound_images,
    sound_stamps,
    sound_stores,
)

LONGEST_SECONDS = 10
MOST_BYTES = 2**30
_SETTINGS = StampSettings()


def _ignore(_done: int) -> None:
    pass


class HangError(BaseException):
    """A reader does not come to an end."""


def read_stamp_file(path: Path) -> bool:
    """Inspect and decode the stamp in ``path``; say whether there was one."""
    (found,) = inspect_stamps([(path,)], _SETTINGS, _ignore)
    if not isinstance(found, Inspected):
        return False
    (pixels,) = decode_stamps([(path,)], found.shape, _SETTINGS)
    return not isinstance(pixels, StampError)


def read_array_file(path: Path) -> bool:
    """Inspect and decode the rows of the array in ``path``; say whether there was one."""
    how = StampSettings(stamp_index=None if path.suffix == ".hdf5" else "row")
    try:
        found = StampArray(path, how, "id").find(IDS, ["0", "1", "2"])
    except SurveyError:
        return False
    return _is_any_read([row for row in found.values() if isinstance(row, Row)], how)


def read_store(path: Path) -> bool:
    """Put ``path`` into a folder of Zarr, as its description or as its first chunk; say whether a stamp was read."""
    kind = path.suffix[1:]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        chunk = store / "c" / "0" / "0" / "0"
        chunk.parent.mkdir(parents=True)
        is_description = kind == "json"
        (store / "zarr.json").write_bytes(path.read_bytes() if is_description else described_zarr(kind))
        chunk.write_bytes(sound_stores()[".zstd zarr"] if is_description else path.read_bytes())
        how = StampSettings(stamp_index="row")
        try:
            found = StampArray(store, how, "id").find(IDS, ["0", "1", "2"])
        except SurveyError:
            return False
        return _is_any_read([row for row in found.values() if isinstance(row, Row)], how)


def read_large_image(path: Path) -> bool:
    """Cut stamps from the image in ``path``; say whether there was one."""
    how = StampSettings(cutouts=True, stamp_size=SIDE)
    ra, dec = POSITION
    try:
        places = LargeImages(path, how).find(np.array([ra, ra + 1e-3, ra - 1e-3]), np.array([dec, dec + 1e-3, dec]))
    except SurveyError:
        return False
    return _is_any_read([place for place in places if isinstance(place, Cutout)], how)


def read_centred_stamp(path: Path) -> bool:
    """Inspect and decode the stamp in ``path`` around a position; say whether there was one."""
    return _is_any_read([CentredStamp((path,), *POSITION)], StampSettings(stamp_centre="position", stamp_size=SIDE))


def _is_any_read(places: Sequence[Place], how: StampSettings) -> bool:
    told = inspect_stamps(places, how, _ignore)
    sound = [(place, one.shape) for place, one in zip(places, told, strict=True) if isinstance(one, Inspected)]
    if not sound:
        return False
    shape = fitted_shape(sound[0][1], how)
    return any(not isinstance(stamp, StampError) for stamp in decode_stamps([place for place, _ in sound], shape, how))


def read_catalogue_file(path: Path) -> bool:
    """Read the catalogue in ``path``; say whether it could be used."""
    try:
        read_catalogue(path, Columns(), ["z"], Audit(), missing_codes={}, max_bad_fraction=1.0)
    except SurveyError:
        return False
    return True


SOUND: dict[str, tuple[bytes, Callable[[Path], bool]]] = {
    **{kind: (content, read_stamp_file) for kind, content in sound_stamps().items()},
    **{kind: (content, read_array_file) for kind, content in sound_arrays().items()},
    **{kind: (content, read_store) for kind, content in sound_stores().items()},
    **{
        kind: (content, read_centred_stamp if kind.endswith("centred") else read_large_image)
        for kind, content in sound_images().items()
    },
    **{kind: (content, read_catalogue_file) for kind, content in sound_catalogues().items()},
}


class Tally:
    """What came of the damaged files of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.inputs = self.read = 0
        self.slowest = 0.0
        #: For each file that was not merely refused: its number, and what happened.
        self.faults: list[tuple[int, str]] = []


def limit_memory() -> None:
    """Let this process have :data:`MOST_BYTES` more than it has."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES, resource.RLIM_INFINITY))


def feed(kind: str, seed: int, numbers: range) -> Tally:
    """Give the reader of ``kind`` the damaged files of these numbers, each the same for the same seed."""
    tally, (content, reader) = Tally(kind), SOUND[kind]

    is_told = False

    def hang(_number: int, _frame: FrameType | None) -> Never:
        nonlocal is_told
        if is_told:
            # A thread that it waits for does not end either.
            os._exit(3)
        is_told = True
        signal.alarm(LONGEST_SECONDS)
        raise HangError

    signal.signal(signal.SIGALRM, hang)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, f"1{kind.split(' ')[0]}")
        for number in numbers:
            path.write_bytes(damage(content, generator_of(seed, kind, number)))
            start, is_told = time.monotonic(), False
            signal.alarm(LONGEST_SECONDS)
            try:
                tally.read += reader(path)
            except HangError:
                tally.faults.append((number, f"more than {LONGEST_SECONDS} s"))
            # Whatever it is, it should have been a refusal.
            except Exception as error:
                tally.faults.append((number, f"{type(error).__name__}: {error!s:.100}"))
            finally:
                signal.alarm(0)
            tally.inputs += 1
            tally.slowest = max(tally.slowest, time.monotonic() - start)
    return tally
