"""Which code decides a result: one rule, for DVC's stages and for the journal.

A result depends on the module that makes it and on all that this imports, directly or not, but for the modules of
:data:`DECIDE_NOTHING`. ``dvc.yaml`` lists the same files; a test compares the two.
"""

import ast
import hashlib
import inspect
import secrets
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = "spacewarps"

#: Modules and packages that decide no bit of any result, and why; what they import is not followed.
DECIDE_NOTHING = {
    "clusters": "where tasks are done",
    "commands": "say what is there",
    "errors": "words",
    "files": "how outputs appear together, not what is in them",
    "interrupts": "when a signal is heard",
    "params": "its values are dependencies by themselves",
    "prediction.on_cluster": "where parts of a survey are predicted",
    "processes": "tells processes apart",
    "progress": "what the terminal shows",
    "provenance": "names the code, and computes nothing",
    "reading": "refuses what cannot be read safely, and changes nothing",
    "resources": "the words for what a machine is short of",
    "search.evaluator": "which candidate is evaluated when",
    "search.executors": "where candidates are evaluated",
    "search.entries": "the files of the journal",
    "search.journal": "which evaluations are known already",
    "search.keys": "names evaluations",
    "search.observer": "who hears of the search",
    "search.sealed": "how the files of a cache are known for sound",
    "settings": "checks the values of params, which are dependencies by themselves",
    "stages.arguments": "the words of errors",
    "stages.dependencies": "refuses a result, and changes none",
    "stages.one_run": "refuses to work, and changes no result",
    "stages.kept_folds": "which outer folds are known already",
    "stages.search_display": "what the terminal shows",
    "survey.in_memory": "what it prepares is hashed as data",
    "tracking": "is told of results",
}


def files_that_decide(module: str, root: Path | None = None) -> list[Path]:
    """Return the files of ``module`` and of all that it computes with, sorted.

    Args:
        module: its name below the package, such as ``search.candidate``.
        root: the folder of the package; that of this file without it.
    """
    root = root or Path(__file__).parent
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name, root)
        if name in found or file is None or _decides_nothing(name):
            continue
        found[name] = file
        waiting += _imports_of(file)
    return sorted(found.values())


def fingerprint_of_code(module: str, root: Path | None = None) -> str:
    """Return a hash of the files that decide what ``module`` computes (SHA-256)."""
    root = root or Path(__file__).parent
    found = hashlib.sha256()
    for file in files_that_decide(module, root):
        found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def fingerprint_from_outside(kind: type) -> str:
    """Return a hash of the code of a class that is defined outside the package; nothing for one of its own.

    It is the class's name, and the file that defines it as it was when this was first asked. A class that no file
    defines, as in an interpreter's session, is like no other, so that nothing computed with it is known later.
    """
    if kind.__module__.partition(".")[0] == PACKAGE:
        return ""
    try:
        code = Path(inspect.getsourcefile(kind) or "").read_bytes()
    except (OSError, TypeError):
        code = secrets.token_bytes()
    return hashlib.sha256(kind.__qualname__.encode() + b"\0" + code).hexdigest()


def _file_of(name: str, root: Path) -> Path | None:
    path = root.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def _decides_nothing(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in DECIDE_NOTHING)


def _imports_of(file: Path) -> Iterator[str]:
    """Yield the project's modules that ``file`` imports anywhere, and the names in them, which may be modules too."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: Iterable[str] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))
