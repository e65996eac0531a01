"""The entries of a journal in a remote of DVC, or at any address that DVC has a file system for."""

import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dvc.config import Config
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import RemoteMissingDepsError, get_cloud_fs
from dvc.repo import Repo
from dvc_objects.fs.base import FileSystem, ObjectFileSystem
from dvc_objects.fs.local import LocalFileSystem

from spacewarps.errors import SpaceWarpsError, extra_missing
from spacewarps.search.entries import HEADER_AT_MOST, SUFFIX, Entries, FolderEntries, epochs_by_header
from spacewarps.search.sealed import seal, unseal

# What is wrong is said here, in one line.
for _name in ("dvc", "dvc_objects", "fsspec", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_REMOTE = "remote://"
# DVC itself has `files` and `runs` there.
_IN_REMOTE = "candidates"
_NAME = re.compile("[0-9a-f]{64}" + re.escape(SUFFIX))
# Of nearly all entries the header is shorter.
_MOST_HEADERS = 1 << 14
# Libraries ask again and again, and some wait seven minutes for a server that takes a connection and says nothing.
_SECONDS = 60.0
_BYTES_A_SECOND = 20_000
_SECRET = re.compile("key|secret|token|pass|string|header", re.IGNORECASE)
# What is shorter, such as the value of a switch, is part of other words.
_SECRET_AT_LEAST = 4
_PASSWORD = re.compile(r"(?<=//)([^/@\s:]*):[^/@\s]*(?=@)")

_Answer = TypeVar("_Answer")


def find_entries(address: str) -> Entries:
    """Return the entries at ``address``, listed where it is no folder.

    Args:
        address: ``remote://NAME`` or ``remote://NAME/PATH``, below the remote ``NAME`` of the DVC project that this
            process is in; or one that DVC has a file system for, such as ``s3://BUCKET/PATH``.

    Raises:
        SpaceWarpsError: there is no such remote, no such file system, or the place cannot be listed.
    """
    place = _without_passwords(address)
    try:
        kind, settings, path = _in_remote(address) if address.startswith(_REMOTE) else get_cloud_fs({}, url=address)
        if issubclass(kind, LocalFileSystem):
            return FolderEntries(Path(path.removeprefix("file://")))
        if not kind.CAN_TRAVERSE:
            raise SpaceWarpsError(
                f"{place}: what is at an address of {kind.protocol}:// cannot be listed; name another"
            )
        files = kind(**settings)
    except NotDvcRepoError:
        raise SpaceWarpsError(f"{place}: this folder is in no DVC project, which would know its remotes") from None
    except DvcException as error:
        raise SpaceWarpsError(f"{place}: DVC cannot use it ({_one_line(error)})") from None
    except (ImportError, RemoteMissingDepsError) as error:
        needs_s3 = "dvc-s3" in str(error) or getattr(error, "protocol", "") == "s3"
        raise SpaceWarpsError(f"{place}: {extra_missing('s3', 'dvc_s3') if needs_s3 else _one_line(error)}") from None
    return RemoteEntries(place, files, path, settings)


def _in_remote(address: str) -> tuple[type[FileSystem], dict[str, Any], str]:
    name, _, below = address.removeprefix(_REMOTE).partition("/")
    config = Config(Repo.find_dvc_dir())
    known = sorted(config["remote"])
    if name.lower() not in known:
        there = f"there are {', '.join(known)}" if known else "there is none"
        raise SpaceWarpsError(f"{address}: DVC has no remote {name!r:.80} here; {there} (`dvc remote list`)")
    kind, settings, path = get_cloud_fs(config, name=name)
    return kind, settings, kind.join(path, below.strip("/") or _IN_REMOTE)


class RemoteEntries:
    """The entries in a place that one of DVC's file systems reaches, as they are listed once, at the beginning.

    Args:
        place: what messages call it.
        files: the file system.
        path: of the place in it.
        settings: of the remote, whose secrets are in no message.

    Raises:
        SpaceWarpsError: it cannot be listed.
    """

    def __init__(self, place: str, files: FileSystem, path: str, settings: Mapping[str, Any]) -> None:
        self._place, self._files, self._path = place, files, path
        named = [*os.environ.items(), *settings.items()]
        found = {value.strip() for name, value in named if _SECRET.search(name) and isinstance(value, str)}
        # One may be part of another.
        self._secrets = sorted((secret for secret in found if len(secret) >= _SECRET_AT_LEAST), key=len, reverse=True)
        try:
            listed = self._ask(self._list)
        except FileNotFoundError as error:
            raise self._fault(error) from None
        self._sizes = {
            name: each["size"] or 0
            for each in listed
            if each["type"] != "directory" and _NAME.fullmatch(name := files.name(each["name"]))
        }

    def __str__(self) -> str:
        return self._place

    def names(self) -> Sequence[str]:
        """Return the names of all entries that are there, sorted."""
        return sorted(self._sizes)

    def epochs(self, name: str) -> int:
        """Return of how many epochs an entry is, by its header alone; of none if it is missing or does not fit that.

        Raises:
            SpaceWarpsError: the place cannot be reached any more.
        """
        size, beginning = self._sizes.get(name, 0), b""
        for at_most in (_MOST_HEADERS, HEADER_AT_MOST):
            # The hash and the header have a line each.
            if len(beginning) < size and beginning.count(b"\n") < 2:
                try:
                    beginning = self._ask(partial(self._get, name, min(at_most, size)))
                except FileNotFoundError:
                    return 0
        return epochs_by_header(beginning, size, name)

    def read(self, name: str) -> bytes:
        """Return what an entry holds, without its seal.

        Raises:
            FileNotFoundError: it is not there any more.
            ValueError: it is torn or altered.
            SpaceWarpsError: the place cannot be reached any more.
        """
        return unseal(self._ask(partial(self._get, name), self._sizes[name]))

    def write(self, name: str, content: bytes) -> None:
        """Seal ``content``, and let it be there in full under ``name``, or not at all.

        Raises:
            SpaceWarpsError: it cannot be written.
        """
        try:
            self._ask(partial(self._put, name, seal(content)), len(content))
        except FileNotFoundError as error:
            raise self._fault(error) from None

    def _list(self) -> list[dict[str, Any]]:
        try:
            return list(self._files.ls(self._path, detail=True))
        except FileNotFoundError:
            # Where nothing is yet, a store of objects can at least be searched, if there is such a bucket.
            if self._holds_objects:
                list(self._files.find(self._path))
            return []

    def _get(self, name: str, count: int | None = None) -> bytes:
        """Return the first ``count`` bytes of an entry's file, or all."""
        path = self._files.join(self._path, name)
        if self._holds_objects:
            content: bytes = self._files.cat_file(path, start=None if count is None else 0, end=count)
            return content
        with self._files.open(path, "rb") as file:
            return file.read(-1 if count is None else count)

    def _put(self, name: str, data: bytes) -> None:
        path = self._files.join(self._path, name)
        if self._holds_objects:
            # It has its name when it is whole.
            self._files.pipe_file(path, data)
            return
        self._files.makedirs(self._path)
        temporary = self._files.join(self._path, f".{secrets.token_hex(8)}.tmp")
        try:
            with self._files.open(temporary, "wb") as file:
                file.write(data)
            # Not all of them rename to a name that is taken.
            with suppress(FileNotFoundError):
                self._files.rm_file(path)
            self._files.mv(temporary, path)
        except BaseException:
            with suppress(Exception):
                self._files.rm_file(temporary)
            raise

    @property
    def _holds_objects(self) -> bool:
        return isinstance(self._files, ObjectFileSystem)

    def _ask(self, ask: Callable[[], _Answer], size: int = 0) -> _Answer:
        """Return the answer to a request that moves ``size`` bytes.

        Raises:
            FileNotFoundError: something is not there.
            SpaceWarpsError: there is no answer, or no good one.
        """
        answer: Future[_Answer] = Future()

        def work() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)

        # A pool of threads would keep the process until the last answer has come.
        threading.Thread(target=work, daemon=True).start()
        try:
            return answer.result(_SECONDS + size / _BYTES_A_SECOND)
        except FileNotFoundError:
            raise
        except Exception as error:
            # Each kind of place fails with errors of its own.
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> SpaceWarpsError:
        why = str(error) or "no answer in time"
        for secret in self._secrets:
            why = why.replace(secret, "***")
        return SpaceWarpsError(
            f"{self._place} cannot be used ({_one_line(why)}); check its address and its keys, and that it is up"
        )


def _one_line(error: object) -> str:
    return f"{_without_passwords(' '.join(str(error).split())):.200}"


def _without_passwords(text: str) -> str:
    """Return ``text`` without what stands between user and host in an address."""
    return _PASSWORD.sub(r"\1:***", text)
