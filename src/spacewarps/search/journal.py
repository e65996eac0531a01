"""The journal: every finished candidate on disk, so that none is ever evaluated twice."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spacewarps.errors import ModelError, SpaceWarpsError
from spacewarps.model.storage import unpack_model
from spacewarps.provenance import fingerprint_of_code
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.fit import Epoch, Score

_FORMAT = "spacewarps-journal-1"
_SUFFIX = ".candidate"
_CLAIMS = "claims"
# A change of the code, as it was when it was imported, makes older entries unknown.
_CODE = fingerprint_of_code("search.candidate")
_HEADER_AT_MOST = 1 << 20
_SECONDS_UNTIL_LEFT_OVER = 3600.0


class JournalError(SpaceWarpsError):
    """The journal cannot be used."""


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    key: str
    what: str
    network: int = Field(ge=0)
    moments: int | None = Field(ge=0)
    weights: int = Field(ge=0)
    epochs: list[tuple[float, float, float]] = Field(min_length=1)
    of_epochs: int


@dataclass(frozen=True)
class Entry:
    """One line of the journal's list.

    Args:
        path: its file.
        what: the candidate, in words.
        accuracy: on validation, after the last epoch that is there.
        epochs: how many are there.
        of_epochs: how many there are when it is finished.
        size: in bytes.
        modified: when it was last used, in seconds since 1970.
    """

    path: Path
    what: str
    accuracy: float
    epochs: int
    of_epochs: int
    size: int
    modified: float


class Journal:
    """A journal that remembers nothing: every candidate is evaluated."""

    def find(self, key: str) -> Checkpoint | None:  # noqa: ARG002
        """Return how far the evaluation called ``key`` has come, in this search or an earlier one."""
        return None

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
        """Note how far an evaluation has come, durably and at once."""

    def claim(self, key: str) -> bool:  # noqa: ARG002
        """Say that this process evaluates ``key`` now; false if another one does."""
        return True

    def release(self, key: str) -> None:
        """Give a claim up."""


class FolderJournal(Journal):
    """A journal in a folder: one file for each candidate.

    A cache: deleting it, or any part of it, costs time and changes no result. Any number of searches may share it.
    An entry is written to a temporary file, synchronised to the disk and renamed; it carries its own hash, and one
    that is torn, altered or of another format counts as not there.

    Args:
        folder: made if it is not there.

    Raises:
        JournalError: it cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Why nothing more is written, once writing has failed.
        self.failure: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # One byte of this file stands for each key. The system drops a lock when its process ends, however it ends.
            self._claims = os.open(folder / _CLAIMS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise JournalError(
                f"{folder}: the journal cannot be written ({error.strerror}); set paths.journal"
            ) from None
        _sweep(folder)

    def close(self) -> None:
        """Drop all claims."""
        os.close(self._claims)

    def find(self, key: str) -> Checkpoint | None:
        """Return how far the evaluation called ``key`` has come; nothing if its entry is missing or damaged."""
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            checkpoint = _read(path, key)
        except (OSError, ValueError, ModelError):
            return None
        with contextlib.suppress(OSError):
            # Pruning by age goes by the last use.
            os.utime(path)
        return checkpoint

    def write(self, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
        """Note how far an evaluation has come, durably and at once.

        A disk that is full or gone costs the entry and all later ones, never the search: ``failure`` says why.
        """
        if self.failure:
            return
        header = _Header(
            format=_FORMAT,
            key=key,
            what=f"layer {evaluation.candidate.step}, {evaluation.candidate.label}",
            network=len(checkpoint.network),
            moments=None if checkpoint.moments is None else len(checkpoint.moments),
            weights=checkpoint.weights,
            epochs=[(e.train_loss, e.validation.accuracy, e.validation.loss) for e in checkpoint.epochs],
            of_epochs=evaluation.settings.epochs,
        )
        content = b"".join(
            [json.dumps(header.model_dump()).encode(), b"\n", checkpoint.network, checkpoint.moments or b""]
        )
        try:
            _write_durably(
                self.folder / f"{key}{_SUFFIX}", hashlib.sha256(content).hexdigest().encode() + b"\n", content
            )
        except OSError as error:
            self.failure = error.strerror or str(error)

    def claim(self, key: str) -> bool:
        """Say that this process evaluates ``key`` now; false if another one does."""
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
        except OSError as error:
            # Where the file system has no locks, two searches may do the same work, to the same bits.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def release(self, key: str) -> None:
        """Give a claim up."""
        with contextlib.suppress(OSError):
            fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _byte(key))


def key_of(evaluation: Evaluation, data: str, machine: str) -> str:
    """Return the name of all that decides the bits of ``evaluation``, wherever it is put down.

    Args:
        evaluation: the candidate, its source, its settings, its precision and threads.
        data: :func:`fingerprint_of_data` of what it learns from and is scored on.
        machine: :func:`spacewarps.training.compute.kind_of_machine` of where it is computed.
    """
    compute = evaluation.compute
    settings = asdict(evaluation.settings)
    if evaluation.settings.warm_start.mode == "siblings" and not evaluation.widens:
        # It starts from the last winner, so it is the same candidate in that mode.
        settings["warm_start"]["mode"] = "previous"
    parts = {
        "format": _FORMAT,
        "data": data,
        "source": hashlib.sha256(evaluation.source).hexdigest(),
        "widens": evaluation.widens,
        "block": asdict(evaluation.candidate.block),
        "seeds": [evaluation.candidate.seed, evaluation.batches],
        "settings": settings,
        "compute": [compute.device.type, str(compute.precision), compute.threads],
        "machine": machine,
        "code": _CODE,
        "versions": [torch.__version__, np.__version__],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint_of_data(train: Space_Galaxi, validation: Space_Galaxi) -> str:
    """Return a hash of all that candidates learn from and are scored on, augmentation included."""
    strengths = None if train.augmentation is None else asdict(train.augmentation)
    return f"{train.fingerprint()} {validation.fingerprint()} {json.dumps(strengths)}"


def list_entries(folder: Path) -> Iterator[Entry]:
    """Yield the entries of the journal in ``folder`` that can be read, the last used first."""
    for modified, size, path in _files(folder):
        with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
            file.readline(_HEADER_AT_MOST)
            header = _Header.model_validate_json(file.readline(_HEADER_AT_MOST), strict=False)
            accuracy = header.epochs[-1][1]
            yield Entry(path, header.what, accuracy, len(header.epochs), header.of_epochs, size, modified)


def prune(folder: Path, *, older_than: float | None, larger_than: int | None) -> tuple[int, int]:
    """Delete entries; return how many, and how many bytes they held.

    Args:
        folder: of the journal.
        older_than: delete what was not used for as many seconds.
        larger_than: then delete what was used the longest ago until the rest holds at most as many bytes.
    """
    now, kept, full = time.time(), 0, False
    count = size_of_all = 0
    for modified, size, path in _files(folder):
        too_old = older_than is not None and now - modified > older_than
        # Nothing that was used before the first that is too much may stay in its place.
        full = full or (larger_than is not None and kept + size > larger_than)
        if too_old or full:
            path.unlink(missing_ok=True)
            count, size_of_all = count + 1, size_of_all + size
        else:
            kept += size
    _sweep(folder)
    return count, size_of_all


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Return when each entry was used, its size and its file, the last used first."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, path))
    return sorted(found, reverse=True)


def _read(path: Path, key: str) -> Checkpoint:
    # A named pipe would be waited for.
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("torn or altered")
    line, _, body = content.partition(b"\n")
    try:
        header = _Header.model_validate_json(line, strict=False)
    except ValidationError as error:
        raise ValueError(str(error)) from None
    moments = body[header.network :]
    if (header.format, header.key) != (_FORMAT, key) or len(body) != header.network + (header.moments or 0):
        raise ValueError("an entry of another candidate")
    network = body[: header.network]
    unpack_model(network)
    epochs = tuple(
        Epoch(number, train_loss, Score(accuracy, loss))
        for number, (train_loss, accuracy, loss) in enumerate(header.epochs, start=1)
    )
    return Checkpoint(epochs, header.weights, network, None if header.moments is None else moments)


def _write_durably(path: Path, *parts: bytes) -> None:
    """Write ``path`` so that after a power loss it is there in full, or not at all."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sweep(folder: Path) -> None:
    """Delete what searches that were killed while they wrote have left."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _SECONDS_UNTIL_LEFT_OVER:
                path.unlink()


def _byte(key: str) -> int:
    return int(key[:15], 16)
