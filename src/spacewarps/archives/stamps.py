"""Stamps that are there: those of an earlier run, and those that a run which has not come to its end has fetched.

A stamp is known by what was asked for, so another size or band is another stamp.
"""

import contextlib
import csv
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from spacewarps.archives.faults import NoImageError, PassingError
from spacewarps.archives.services import SERVICES, Cutout
from spacewarps.archives.settings import FetchSettings
from spacewarps.formulas import as_text, from_text
from spacewarps.reading import check_file, read_json, sha256_of
from spacewarps.survey.images import StampError
from spacewarps.survey.pixels import MAX_MASKED
from spacewarps.survey.settings import StampSettings
from spacewarps.survey.stamps import decode_stamps, inspect_stamps
from spacewarps.writing import write_json

IMAGES = "images"
TABLE = "stamps.csv"
COLUMNS = ("id", "band", "file", "sha256", "url", "asked")

# A picture of SDSS is black, but for what is written into it, where the survey has not been.
_MOST_BLACK = 0.5
# What the survey says of a stamp that is NaN where nothing was measured.
_MASKED = f"stamp of which more than {MAX_MASKED:.0%} is masked"


@dataclass(frozen=True)
class Stamp:
    """A file that is known to be a stamp.

    Args:
        path: where it is now.
        sha256: of its bytes.
        url: where it came from.
    """

    path: Path
    sha256: str
    url: str


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    sha256: str
    url: str


class Store:
    """A folder of stamps that were fetched, each beside a record that says so.

    Args:
        folder: is made.
        how: what is asked for.
        reading: how the survey will read the stamps.
    """

    def __init__(self, folder: Path, how: FetchSettings, reading: StampSettings) -> None:
        self.folder, self._how, self._reading = folder, how, reading
        folder.mkdir(parents=True, exist_ok=True)
        # Decoding sets what belongs to the whole process.
        self._one_at_a_time = threading.Lock()

    def key_of(self, cutout: Cutout) -> str:
        """Return what names a stamp: a hash of all that was asked for."""
        # The bands of a picture in colour need not stand in its address.
        bands = (cutout.band,) if cutout.band else self._how.bands
        asked = "\0".join((cutout.url, *bands, self._how.format))
        return hashlib.sha256(asked.encode()).hexdigest()[:32]

    def find(self, key: str) -> Stamp | None:
        """Return the stamp of ``key``, if it is there and sound."""
        try:
            record = read_json(self._record(key), _Record)
        except (OSError, ValueError):
            return None
        return _if_sound(Stamp(self._stamp(key), record.sha256, record.url))

    def keep(self, key: str, cutout: Cutout, content: bytes, url: str) -> Stamp:
        """Return the stamp of ``key``, whose file holds ``content``, once it is known to be one.

        Raises:
            NoImageError: it is blank.
            PassingError: it is not what was asked for.
        """
        temporary = self.folder / f".{secrets.token_hex(8)}{self._suffix}"
        try:
            temporary.write_bytes(content)
            self._check(temporary, cutout)
            stamp = Stamp(self._stamp(key), hashlib.sha256(content).hexdigest(), url)
            temporary.replace(stamp.path)
            write_json(temporary, {"sha256": stamp.sha256, "url": url})
            temporary.replace(self._record(key))
        finally:
            temporary.unlink(missing_ok=True)
        return stamp

    @property
    def _suffix(self) -> str:
        return f".{self._how.format}"

    def _stamp(self, key: str) -> Path:
        return self.folder / f"{key}{self._suffix}"

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _check(self, path: Path, cutout: Cutout) -> None:
        """Read a stamp as the survey will, with the same bounds."""
        with self._one_at_a_time:
            try:
                (found,) = inspect_stamps([(path,)], self._reading, lambda _: None)
                if isinstance(found, StampError):
                    raise found
                shape = found.shape
                if cutout.side is not None and (shape.width, shape.height) != (cutout.side, cutout.side):
                    raise StampError(f"stamp of another size than asked for ({shape.width} x {shape.height})")
                if cutout.channels is not None and shape.channels != cutout.channels:
                    raise StampError(f"stamp of {shape.channels} channels, where {cutout.channels} were asked for")
                (pixels,) = decode_stamps([(path,)], shape, self._reading)
                if isinstance(pixels, StampError):
                    raise pixels
            except StampError as fault:
                if str(fault) == _MASKED:
                    raise NoImageError("no image there (most of it is masked)") from None
                raise PassingError(str(fault)) from None
        blank = bool((pixels == pixels[:, :1, :1]).all(axis=(1, 2)).any()) and pixels[0].size > 1
        if self._how.service in SERVICES and SERVICES[self._how.service].is_black_outside:
            blank = blank or float(np.mean((pixels == 0).all(axis=0))) > _MOST_BLACK
        if blank:
            raise NoImageError("no image there (a blank one)")


def stamps_of_earlier_run(folder: Path) -> Mapping[str, Stamp]:
    """Return the stamps that the table in ``folder`` lists, by what was asked for; none if there is no such table."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, csv.Error):
        check_file(folder / TABLE)
        with (folder / TABLE).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                # Only names of this very folder.
                path = folder / IMAGES / Path(from_text(row["file"])).name
                found[row["asked"]] = Stamp(path, row["sha256"], row["url"])
    return found


def find_earlier(stamps: Mapping[str, Stamp], key: str) -> Stamp | None:
    """Return the stamp of ``key`` among those of an earlier run, if it is still what it was."""
    stamp = stamps.get(key)
    return None if stamp is None else _if_sound(stamp)


def _if_sound(stamp: Stamp) -> Stamp | None:
    try:
        check_file(stamp.path)
        return stamp if sha256_of(stamp.path) == stamp.sha256 else None
    except (OSError, ValueError):
        return None


def put_together(folder: Path, rows: Iterable[Sequence[str]], stamps: Mapping[str, Stamp]) -> None:
    """Give the stamps of ``rows``, a line each of :data:`COLUMNS`, their names below ``folder``; write the table."""
    (folder / IMAGES).mkdir()
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow(map(as_text, row))
            source, target = stamps[row[-1]].path, folder / IMAGES / row[2]
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
