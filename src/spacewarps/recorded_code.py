"""``code.json``: which code the stages of a project depend on that holds none, but runs what is installed.

In the repository a stage depends on files of ``src``. Elsewhere DVC cannot see the code, so the project holds a hash of
the code that decides each stage, as params of that stage. The hashes are true only as long as that very code is
installed, so a stage refuses to run with any other.
"""

import importlib.metadata
from pathlib import Path

from pydantic import RootModel

from spacewarps.errors import SpaceWarpsError
from spacewarps.provenance import PACKAGE, fingerprint_of_code
from spacewarps.reading import read_json

CODE = Path("code.json")
PIPELINE_STAGES = ("simulate", "prepare", "search", "train", "evaluate", "crossvalidate", "predict", "fetch")

_VERSION = "version"


def installed_code() -> dict[str, str]:
    """Return the version of the package, and for each stage the hash of the code that decides it."""
    return {_VERSION: _installed_version(), **{stage: _hash_of(stage) for stage in PIPELINE_STAGES}}


def check_installed_code(stage: str) -> None:
    """Refuse to run a stage with other code than ``code.json`` records, where this folder holds one.

    Raises:
        SpaceWarpsError: the installed code is another, or ``code.json`` is damaged.
    """
    if not CODE.exists():
        return
    recorded = _read(CODE)
    if recorded.get(stage) != _hash_of(stage):
        raise SpaceWarpsError(
            f"{CODE} was written for version {recorded.get(_VERSION)!r:.40}, but version {_installed_version()!r} is "
            "installed, whose code for this stage is another; install that version again, or record this one with "
            "`spacewarps init --update .`, and `dvc repro` runs what the change concerns"
        )


def _installed_version() -> str:
    return importlib.metadata.version(PACKAGE)


def _hash_of(stage: str) -> str:
    return fingerprint_of_code(f"stages.{stage}")


def _read(path: Path) -> dict[str, str]:
    try:
        return read_json(path, _Recorded).root
    except ValueError as error:
        raise SpaceWarpsError(f"{path}: damaged ({error}); `spacewarps init --update .` writes it anew") from None


class _Recorded(RootModel[dict[str, str]]):
    pass
