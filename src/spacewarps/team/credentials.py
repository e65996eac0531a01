"""Passwords and keys of a server, made once, in files that only its user can read."""

import json
import os
import secrets
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from spacewarps.errors import SpaceWarpsError

_FILE = "credentials.json"


@dataclass(frozen=True)
class Credentials:
    """Who may do what.

    Args:
        user: the administrator of MLflow's accounts, by a name that no other server has.
        password: that user's.
        database_password: that of the database's only role.
        s3_key: the id of the key to the bucket.
        s3_secret: its secret part.
        cookies: signs what MLflow's pages send back.
    """

    user: str
    password: str
    database_password: str
    s3_key: str
    s3_secret: str
    cookies: str

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Return those that ``folder`` holds; they are made where there are none.

        Raises:
            SpaceWarpsError: the file is not what was written there.
            OSError: the folder cannot be written.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / _FILE
        if not path.exists():
            words = (secrets.token_urlsafe(24) for _ in range(5))
            write_secret(path, json.dumps(asdict(cls(f"team-{secrets.token_hex(3)}", *words))))
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError):
            raise SpaceWarpsError(
                f"{path}: not the passwords that were written there; without them the data beside it stays closed, so "
                "restore the file or remove the whole folder"
            ) from None


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its user can read, from its first moment on, and whole.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(new, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(text)
    new.replace(path)


def as_shell(variables: dict[str, str]) -> str:
    """Return lines that set environment variables in a shell that reads them."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
