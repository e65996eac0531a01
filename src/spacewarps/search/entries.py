"""The files of a journal, one for each evaluation: written, read, listed, copied and pruned."""

import contextlib
import itertools
import json
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spacewarps.errors import ModelError
from spacewarps.model.storage import unpack_model
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.keys import FORMAT
from spacewarps.search.sealed import read_sealed, sweep, write_sealed
from spacewarps.training.score import Epoch, Outcomes, Score

SUFFIX = ".candidate"
#: No header of an entry, with the hash before it, is longer, in bytes.
HEADER_AT_MOST = 1 << 20
# A place that is far away takes its time for each; more of them would only share the line.
_AT_ONCE = 8


_Share = Annotated[float, Field(ge=0, le=1)]
_Loss = Annotated[float, Field(ge=0)]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    key: str
    what: str
    network: int = Field(ge=0)
    optimiser_state: int | None = Field(ge=0)
    outcomes: int = Field(ge=0)
    parameters: int = Field(ge=0)
    epochs: list[tuple[_Loss, _Share, _Loss]] = Field(min_length=1)
    of_epochs: int

    def parts(self) -> list[int]:
        """Return the sizes of what follows it, in bytes: the network, its optimiser's state, outcomes of each epoch."""
        return [self.network, self.optimiser_state or 0, *[self.outcomes] * len(self.epochs)]

    def is_of(self, key: str) -> bool:
        """Return whether it is that of the evaluation called ``key``, in the format of today."""
        return (self.format, self.key) == (FORMAT, key)


class Entries(Protocol):
    """The entries of a journal, wherever they are, each by the name of its file."""

    def names(self) -> Sequence[str]:
        """Return the names of all entries that are there."""

    def epochs(self, name: str) -> int:
        """Return of how many epochs an entry is; of none if it is missing, or known for damaged without much ado."""

    def read(self, name: str) -> bytes:
        """Return what an entry holds, without its seal.

        Raises:
            OSError: it is not there.
            ValueError: it is torn or altered.
        """

    def write(self, name: str, content: bytes) -> None:
        """Seal ``content``, and let it be there in full under ``name``, or not at all."""


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


@dataclass(frozen=True)
class Copied:
    """What :func:`copy_entries` did.

    Args:
        new: how many entries it copied.
        known: how many were in the target already, as far as in the source or further.
        damaged: how many it left out.
    """

    new: int
    known: int
    damaged: int


def write_entry(path: Path, key: str, evaluation: Evaluation, checkpoint: Checkpoint) -> None:
    """Write down how far ``evaluation`` has come, durably.

    The file is sealed, and holds a header, the network, its optimiser's state, and the outcomes of each epoch.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    header = _Header(
        format=FORMAT,
        key=key,
        what=evaluation.what,
        network=len(checkpoint.network),
        optimiser_state=None if checkpoint.optimiser_state is None else len(checkpoint.optimiser_state),
        outcomes=len(checkpoint.outcomes[0].packed),
        parameters=checkpoint.parameters,
        epochs=[(e.train_loss, e.validation.accuracy, e.validation.loss) for e in checkpoint.epochs],
        of_epochs=evaluation.settings.epochs,
    )
    outcomes = [each.packed for each in checkpoint.outcomes]
    content = b"".join(
        [
            json.dumps(header.model_dump()).encode(),
            b"\n",
            checkpoint.network,
            checkpoint.optimiser_state or b"",
            *outcomes,
        ]
    )
    write_sealed(path, content)


def read_entry(path: Path, key: str) -> Checkpoint:
    """Return what the entry of ``key`` holds.

    Raises:
        OSError: there is none.
        ValueError, ModelError: it is torn, altered, or that of another evaluation.
    """
    return _unpacked(read_sealed(path), key)


def _unpacked(content: bytes, key: str) -> Checkpoint:
    line, _, body = content.partition(b"\n")
    try:
        header = _Header.model_validate_json(line, strict=False)
    except ValidationError as error:
        raise ValueError(str(error)) from None
    if not header.is_of(key):
        raise ValueError("an entry of another candidate")
    network, state, *outcomes = _parts(body, header.parts())
    unpack_model(network)
    epochs = tuple(
        Epoch(number, train_loss, Score(accuracy, loss))
        for number, (train_loss, accuracy, loss) in enumerate(header.epochs, start=1)
    )
    return Checkpoint(
        epochs,
        tuple(map(Outcomes, outcomes)),
        header.parameters,
        network,
        None if header.optimiser_state is None else state,
    )


def _parts(body: bytes, sizes: Sequence[int]) -> list[bytes]:
    ends = list(itertools.accumulate(sizes))
    if ends[-1] != len(body):
        raise ValueError(f"its parts are {ends[-1]} bytes together, but there are {len(body)}")
    return [body[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def list_entries(folder: Path) -> Iterator[Entry]:
    """Yield the entries of the journal in ``folder`` that can be read, the last used first."""
    for modified, size, path in _files(folder):
        with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
            file.readline(HEADER_AT_MOST)
            header = _Header.model_validate_json(file.readline(HEADER_AT_MOST), strict=False)
            accuracy = header.epochs[-1][1]
            yield Entry(path, header.what, accuracy, len(header.epochs), header.of_epochs, size, modified)


class FolderEntries:
    """The entries of the journal in a folder.

    Args:
        folder: of the journal; entries are written only where it is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def names(self) -> Sequence[str]:
        """Return the names of all entries that are there, the last used first."""
        return [path.name for _, _, path in _files(self.folder)]

    def epochs(self, name: str) -> int:
        """Return of how many epochs an entry is; of none if it is missing or damaged."""
        try:
            return len(_unpacked(self.read(name), name.removesuffix(SUFFIX)).epochs)
        except (OSError, ValueError, ModelError):
            return 0

    def read(self, name: str) -> bytes:
        """Return what an entry holds, without its seal.

        Raises:
            OSError: it is not there.
            ValueError: it is torn or altered.
        """
        return read_sealed(self.folder / name)

    def write(self, name: str, content: bytes) -> None:
        """Seal ``content``, and let it be there in full under ``name``, or not at all.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        write_sealed(self.folder / name, content)


def copy_entries(source: Entries, target: Entries, advance: Callable[[int], object]) -> Copied:
    """Copy what ``source`` knows, and ``target`` does not, or not as far.

    Each entry is read as a search reads it before it is copied: one that is torn, altered or that of another candidate
    than its name says is left out, and one of these in ``target`` is replaced. Searches may use both meanwhile.

    Args:
        source: what is copied.
        target: where it is copied to.
        advance: is told of each entry that is done.

    Raises:
        OSError, SpaceWarpsError: an entry cannot be written; those before it are there, and nothing is left of it.
    """
    counts: Counter[str] = Counter(new=0, known=0, damaged=0)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for what in threads.map(partial(_copy, source, target), source.names()):
            counts[what] += 1
            advance(1)
    return Copied(**counts)


def _copy(source: Entries, target: Entries, name: str) -> Literal["new", "known", "damaged"]:
    known = target.epochs(name)
    # What both have need not be read in full to see which has come further.
    if known and (there := source.epochs(name)) <= known:
        return "known" if there else "damaged"
    try:
        content = source.read(name)
        _unpacked(content, name.removesuffix(SUFFIX))
    except (OSError, ValueError, ModelError):
        return "damaged"
    target.write(name, content)
    return "new"


def epochs_by_header(beginning: bytes, size: int, name: str) -> int:
    """Return of how many epochs an entry is, as its header has it; of none if its size or its name is not as that says.

    Args:
        beginning: the first bytes of its file, the whole header among them.
        size: of the file, in bytes.
        name: of the file.
    """
    digest, _, rest = beginning.partition(b"\n")
    line, _, _ = rest.partition(b"\n")
    try:
        header = _Header.model_validate_json(line, strict=False)
    except ValidationError:
        return 0
    is_whole = size == len(digest) + 1 + len(line) + 1 + sum(header.parts())
    return len(header.epochs) if is_whole and header.is_of(name.removesuffix(SUFFIX)) else 0


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
    sweep(folder)
    return count, size_of_all


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Return when each entry was used, its size and its file, the last used first."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, path))
    return sorted(found, reverse=True)
