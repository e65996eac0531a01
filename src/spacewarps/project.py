"""What ``spacewarps init`` writes: a project that runs the installed code, under git and DVC."""

import os
import re
import shlex
import shutil
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.files import outputs
from spacewarps.git import fault, run_git
from spacewarps.project_files import PACKED, PROJECT_FILES
from spacewarps.recorded_code import CODE, installed_code
from spacewarps.writing import write_json, write_text

_PIPELINE = "dvc.yaml"
_PIPELINES = (_PIPELINE, "crossvalidation/dvc.yaml", "prediction/dvc.yaml", "fetching/dvc.yaml")
_STAGE = re.compile(r"  (\w+):")


PARAMS = "params.yaml"


def init_project(folder: Path, params: str | None = None) -> str:
    """Write a project into ``folder``, and make a git repository of it unless it lies in one.

    Args:
        folder: where.
        params: what its ``params.yaml`` holds; without it, the defaults.

    Returns:
        What to do next.

    Raises:
        SpaceWarpsError: as :func:`check_new`; nothing is written.
    """
    place, standing, under_git = check_new(folder)
    texts, code = _texts(), installed_code()
    if params is not None:
        texts[PARAMS] = params
    with outputs() as out:
        for name, text in texts.items():
            write_text(out.file(folder / name), text)
        write_json(out.file(folder / CODE), code)
        if not under_git:
            _make_repository(standing, place)
    steps = ["git add . && git commit --message 'Start with Space Warps'", "dvc repro"]
    if place != Path.cwd():
        steps.insert(0, f"cd {'-- ' * str(folder).startswith('-')}{shlex.quote(str(folder))}")
    return f"{folder} holds a project. Next:\n" + "".join(f"  {step}\n" for step in steps)


def default_params() -> str:
    """Return the ``params.yaml`` of a new project."""
    return _texts()[PARAMS]


def check_new(folder: Path) -> tuple[Path, Path, bool]:
    """Check that a project can be written into ``folder``.

    Returns:
        The folder without links, that of its parents which is there already, and whether that lies in a git repository.

    Raises:
        SpaceWarpsError: something stands where a file would be written, or git cannot be used.
    """
    for parent in (folder, *folder.parents):
        if parent.is_symlink() and not parent.exists():
            raise SpaceWarpsError(f"{parent} is a link to nothing, or to itself; remove it, or name another folder")
    for name in (*PROJECT_FILES, str(CODE)):
        if os.path.lexists(folder / name):
            raise SpaceWarpsError(f"{folder / name} is there already, and would be written over; name another folder")
    place = folder.resolve()
    standing = next(parent for parent in (place, *place.parents) if parent.exists())
    if not standing.is_dir():
        raise SpaceWarpsError(f"{standing} is a file, but a folder is to be written there; name another")
    under_git = _in_work_tree(standing)
    if under_git and run_git(standing, "check-ignore", str(place / _PIPELINE), may_fail=True).returncode == 0:
        raise SpaceWarpsError(f"git ignores {folder}, so DVC would see nothing there; name another folder")
    return place, standing, under_git


def update_project(folder: Path) -> str:
    """Record the installed code in a project that :func:`init_project` has written.

    Returns:
        What to do next.

    Raises:
        SpaceWarpsError: there is no such project.
    """
    if not (folder / CODE).is_file():
        raise SpaceWarpsError(f"{folder / CODE}: no such file; `spacewarps init` writes it with a project")
    code = installed_code()
    with outputs() as out:
        write_json(out.file(folder / CODE), code)
    lines = [
        f"{folder / CODE} records the code of version {code['version']}; `dvc repro` runs what the change concerns"
    ]
    texts = _texts()
    for name in _PIPELINES:
        pipeline = folder / name
        if not pipeline.is_file() or pipeline.read_bytes() != texts[name].encode():
            lines.append(
                f"{pipeline} is not the one of this version; unless you changed it, take over what `spacewarps init` "
                "writes into an empty folder"
            )
    return "\n".join(lines) + "\n"


def _texts() -> dict[str, str]:
    packed = Path(__file__).with_name(PACKED)
    # In the repository, they stand at its root.
    source = packed if packed.is_dir() else Path(__file__).parents[2]
    texts = {name: (source / name).read_text(encoding="utf-8") for name in PROJECT_FILES}
    return texts | {name: depending_on_recorded_code(texts[name]) for name in _PIPELINES}


def depending_on_recorded_code(pipeline: str) -> str:
    """Return the repository's ``dvc.yaml`` with the recorded hash of each stage's code in place of its files.

    Line by line, as a YAML library would lose the comments that stand beside what it takes out.
    """
    lines: list[str] = []
    stage = ""
    for line in pipeline.splitlines():
        if named := _STAGE.fullmatch(line):
            stage = named[1]
        if line.startswith("      - src/"):
            continue
        if lines and lines[-1] == "    deps:" and not line.startswith("      - "):
            lines.pop()
        if line == "    params:":
            lines += [line, f"      - {CODE}: [{stage}]"]
        elif line.startswith("    params: ["):
            lines.append(f"{line.removesuffix(']')}, {CODE}: [{stage}]]")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _in_work_tree(folder: Path) -> bool:
    done = run_git(folder, "rev-parse", "--is-inside-work-tree", may_fail=True)
    if done.returncode and "not a git repository" not in done.stderr:
        raise SpaceWarpsError(f"git cannot be used in {folder}: {fault(done.stderr)}")
    if done.stdout.strip() == "false":
        raise SpaceWarpsError(f"{folder} is git's own folder, or a bare repository's; name one outside of it")
    return done.returncode == 0


def _make_repository(standing: Path, place: Path) -> None:
    """Make a git repository of ``place``, a folder below ``standing``; leave nothing of one that cannot be made."""
    gits_own = place / ".git"
    was_there = os.path.lexists(gits_own)
    try:
        run_git(standing, "init", "--quiet", str(place))
    except BaseException:
        if not was_there:
            shutil.rmtree(gits_own, ignore_errors=True)
        raise
