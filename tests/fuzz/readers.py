"""Each reader asked for a damaged file, as `prepare` and `predict` ask it, and what it does beside refusing."""

import os
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Never

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.columns import Columns
from spacewarps.survey.images import StampError
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamp_arrays import Row, StampArray
from spacewarps.survey.stamps import Inspected, decode_stamps, inspect_stamps
from tests.fuzz.files import IDS, damage, generator_of, sound_arrays, sound_catalogues, sound_stamps

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
    rows = [row for row in found.values() if isinstance(row, Row)]
    told = inspect_stamps(rows, how, _ignore)
    sound = [row for row, one in zip(rows, told, strict=True) if isinstance(one, Inspected)]
    if not sound:
        return False
    return any(not isinstance(stamp, StampError) for stamp in decode_stamps(sound, sound[0].array.shape, how))


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
