"""The command ``checkout``: a working tree that is as one was when a run of the pipeline began."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configobj import ConfigObj
from dvc.config import Config, merge

from spacewarps.commands.committed_changes import commit_of_experiment, commits_with_changes, experiment_at
from spacewarps.commands.recorded_outputs import commits_with, differing_outputs, locks_at, read_outputs
from spacewarps.errors import SpaceWarpsError
from spacewarps.git import run_git
from spacewarps.progress import say
from spacewarps.tracking.pipeline_file import PIPELINES
from spacewarps.tracking.recorded_run import RecordedRun, find_recorded_run
from spacewarps.tracking.revision import MOST_NAMED

_PARAMS = "params.yaml"
_ERROR = "ERROR: "
_LOCAL_SETTINGS = Path(".dvc/config.local")
#: What DVC says of what it has not fetched.
_MISSING = ("deleted", "not in cache")
_LOCKS = [file.with_suffix(".lock") for file in PIPELINES]


def run(run_id: str, folder: Path) -> None:
    """Make a git worktree of the run's commit in ``folder``, with its params and, where they can be had, its results.

    Where the run had changes that were not committed, it is a worktree of a commit that has them, as that of a DVC
    experiment. If ``folder`` is such a worktree already, say whether the results in it are those of the run.

    Raises:
        SpaceWarpsError: the run cannot be repeated from git, or ``folder`` is taken; nothing is left of it.
    """
    project = Path.cwd()
    recorded = find_recorded_run(run_id, project)
    below = Path(run_git(project, "rev-parse", "--show-prefix").stdout.rstrip("\n"))
    _check_commit(project, recorded)
    commits = commits_with_changes(recorded, project, _LOCKS) if recorded.changed else [recorded.commit]
    if any(_is_tree_of(recorded, folder, below, commit) for commit in commits):
        _compare(recorded, folder / below)
        return
    if not commits:
        raise _not_committed(project, recorded)
    if os.path.lexists(folder):
        raise SpaceWarpsError(f"{folder} is there already, and is no working tree of this run; name another folder")
    try:
        _add_worktree(project, folder.absolute(), commits[0])
        tree = folder.absolute() / below
        (tree / _PARAMS).write_bytes(recorded.params_file)
        commit = _go_to_changes(tree, recorded, commits) if recorded.changed else recorded.commit
        results = commit if recorded.changed else _commit_with_results(tree, recorded)
        if results:
            _take_results(tree, results)
        _share_cache(project, tree)
        _fetch_data(tree)
        left = _left_to_do(tree, recorded)
    except BaseException:
        with contextlib.suppress(SpaceWarpsError):
            run_git(project, "worktree", "remove", "--force", str(folder.absolute()), may_fail=True)
        raise
    _tell(recorded, folder / below, commit, results, left)


def _check_commit(project: Path, recorded: RecordedRun) -> None:
    commit, which = recorded.commit, f"run {recorded.run_id} ({recorded.name})"
    if run_git(project, "cat-file", "-e", f"{commit}^{{commit}}", may_fail=True).returncode:
        raise SpaceWarpsError(
            f"{which}: its commit {commit[:12]} is not in this repository; `git fetch --all` may bring it, unless it "
            "is gone, or the run is another project's"
        )
    if run_git(project, "cat-file", "-e", f"{commit}:./{recorded.pipeline}", may_fail=True).returncode:
        raise SpaceWarpsError(
            f"{which}: its commit {commit[:12]} has no {recorded.pipeline} here; run this in its project"
        )


def _not_committed(project: Path, recorded: RecordedRun) -> SpaceWarpsError:
    name, advice = recorded.experiment, "commit first, and run it again"
    if name and not commit_of_experiment(recorded, project):
        advice = f"`dvc exp pull REMOTE {name}` brings the experiment if it was pushed; or else {advice}"
    return SpaceWarpsError(
        f"run {recorded.run_id} ({recorded.name}): {_changed(recorded)} had changes when it ran that are not in its "
        f"commit {recorded.commit[:12]}, nor with its results in any other; {advice}"
    )


def _changed(recorded: RecordedRun) -> str:
    first, *others = recorded.changed
    return f"{first} and {len(others)} more" if others else first


def _add_worktree(project: Path, folder: Path, commit: str) -> None:
    listed = run_git(project, "worktree", "list", "--porcelain").stdout.splitlines()
    if f"worktree {folder.parent.resolve() / folder.name}" in listed:
        raise SpaceWarpsError(f"{folder} is gone, but git still has it as a working tree; `git worktree prune` helps")
    run_git(project, "worktree", "add", "--quiet", "--detach", str(folder), commit)


def _is_tree_of(recorded: RecordedRun, folder: Path, below: Path, commit: str) -> bool:
    """Return whether ``folder`` holds what :func:`run` has made for the same run."""
    try:
        params = (folder / below / _PARAMS).read_bytes()
        at = run_git(folder, "rev-parse", "HEAD", "--show-cdup").stdout.split("\n")
    except (OSError, SpaceWarpsError):
        return False
    return params == recorded.params_file and at[:2] == [commit, ""]


def _go_to_changes(tree: Path, recorded: RecordedRun, commits: list[str]) -> str:
    """Check out in ``tree`` the first of ``commits`` whose files are those that its ``dvc.lock`` has the hashes of."""
    for commit in commits:
        run_git(tree, "checkout", "--quiet", "--force", "--detach", commit)
        (tree / _PARAMS).write_bytes(recorded.params_file)
        left = _left_to_do(tree, recorded)
        # Not all may be named, and the last are those that git did not track, which a commit may lack.
        all_named = len(recorded.changed) < MOST_NAMED
        if _only_lacks_data(left) and (all_named or not _absent_inputs(tree, recorded, left)):
            return commit
    raise _not_committed(tree, recorded)


def _only_lacks_data(left: Mapping[str, list[Any]]) -> bool:
    """Say whether DVC finds nothing changed, and at most something missing."""
    changes = [change for of_stage in left.values() for change in of_stage]
    return all(
        isinstance(change, dict) and all(state in _MISSING for states in change.values() for state in states.values())
        for change in changes
    )


def _commit_with_results(tree: Path, recorded: RecordedRun) -> str | None:
    """Return a commit, on whatever branch or of whatever experiment, whose ``dvc.lock`` has the hashes of the run."""
    if not recorded.outputs:
        return None
    # That of its own experiment may differ from the one before in a few hashes only.
    own = commit_of_experiment(recorded, tree)
    if own and not differing_outputs(recorded.outputs, *locks_at(own, tree, _LOCKS)):
        return own
    # The last that was written tells most.
    newest = list(recorded.outputs.values())[-1]
    for commit, locks in commits_with(newest, tree, _LOCKS):
        if not differing_outputs(recorded.outputs, *locks):
            return commit
    return None


def _take_results(tree: Path, commit: str) -> None:
    """Take the locks, and the outputs that git holds, such as metrics, from ``commit``."""
    names: list[str] = []
    for file in _LOCKS:
        lock = run_git(tree, "show", f"{commit}:./{file}", may_fail=True).stdout
        names += [str(file), *read_outputs(lock)]
    held = run_git(tree, "ls-tree", "-r", "-z", "--name-only", commit, "--", *names).stdout
    run_git(tree, "restore", f"--source={commit}", "--", *filter(None, held.split("\0")))


def _share_cache(project: Path, tree: Path) -> None:
    """Let DVC find in ``tree`` what the project has in its cache and its remotes, of which the commit may know none."""
    cache = project / _dvc(project, "cache", "dir").stdout.strip()
    known = Config(str(project / ".dvc"))
    settings: dict[str, Any] = {}
    for level in Config.REPO_LEVELS:
        # With the places in full, as they are relative to the file that names them.
        merge(settings, known.load_one(level))
    settings["cache"] |= {"dir": str(cache)}
    # DVC itself writes ASCII only.
    written = ConfigObj(encoding="utf-8")
    for section, values in settings.items():
        for name, value in values.items():
            if isinstance(value, dict):
                written[f'{section} "{name}"'] = value
            else:
                written.setdefault(section, {})[name] = value
    # There may be keys in it.
    with os.fdopen(os.open(tree / _LOCAL_SETTINGS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        written.write(file)


def _fetch_data(tree: Path) -> None:
    """Bring what ``dvc.lock`` names from the cache, or else from the remote."""
    if not _dvc(tree, "checkout", "--quiet", may_fail=True).returncode:
        return
    pulled = _dvc(tree, "pull", "--allow-missing", may_fail=True)
    if pulled.returncode:
        say(f"not all data could be pulled: {_fault(pulled.stderr)}")
        _dvc(tree, "checkout", "--quiet", "--allow-missing", may_fail=True)


def _left_to_do(tree: Path, recorded: RecordedRun) -> dict[str, list[Any]]:
    """Return the stages that ``dvc repro`` would run, in its words what has changed for each."""
    left: dict[str, list[Any]] = json.loads(_dvc(tree, "status", "--json", str(recorded.pipeline)).stdout)
    return left


def _compare(recorded: RecordedRun, tree: Path) -> None:
    if not recorded.outputs:
        raise SpaceWarpsError(
            f"run {recorded.run_id}: no stage of it has ended, so there are no hashes to compare with"
        )
    lock = tree / recorded.pipeline.with_suffix(".lock")
    differ = differing_outputs(recorded.outputs, *(_text_of(tree / name) for name in _LOCKS))
    if differ:
        raise SpaceWarpsError(
            f"{lock}: {len(differ)} of {len(recorded.outputs)} outputs are not those of run "
            f"{recorded.run_id} (the first is {differ[0]}); `dvc repro` in {tree} makes them"
        )
    say(f"{lock} has the hashes of all {len(recorded.outputs)} outputs of run {recorded.run_id}")


def _tell(recorded: RecordedRun, tree: Path, commit: str, results: str | None, left: Mapping[str, list[Any]]) -> None:
    name = experiment_at(commit, tree)
    of = f" of experiment {name}" if name else ""
    say(f"{tree}: commit {commit[:12]}{of} with the params of run {recorded.run_id} ({recorded.name})")
    if recorded.changed:
        say(f"  code: with the changes to {_changed(recorded)} that were not in commit {recorded.commit[:12]}")
    if results:
        say(f"  results: those that commit {results[:12]} holds, with the hashes of the run")
    else:
        say("  results: no commit holds those of the run; data is what this commit has")
    if lacking := [path for path, state in _changes(left, "changed outs") if state == "not in cache"]:
        say(f"  neither in the cache of this clone nor in a remote: {', '.join(lacking)}")
    if absent := _absent_inputs(tree, recorded, left):
        say(f"  not there: {', '.join(absent)}")
    repro = "dvc repro" if recorded.pipeline == PIPELINES[0] else f"dvc repro {recorded.pipeline}"
    if not left:
        say(f"  `{repro}` there has nothing to do")
        return
    say(f"  `{repro}` there runs {', '.join(left)}, and what depends on {'them' if len(left) > 1 else 'it'}")
    say("  `spacewarps journal pull PLACE` there brings candidates that another journal knows; the same checkout")
    say("  command then says whether the hashes are those of the run")


def _absent_inputs(tree: Path, recorded: RecordedRun, left: Mapping[str, list[Any]]) -> list[str]:
    """Return the inputs that are missing in ``tree`` and that no stage makes: a survey that git and DVC do not hold."""
    outputs = {*recorded.outputs, *(path for name in _LOCKS for path in read_outputs(_text_of(tree / name)))}
    absent = dict.fromkeys(path for path, state in _changes(left, "changed deps") if state == "deleted")
    return [path for path in absent if not any(map(Path(path).is_relative_to, outputs))]


def _changes(left: Mapping[str, list[Any]], what: str) -> list[tuple[str, Any]]:
    """Return what DVC says of each dependency or output that has changed."""
    found = [change for changes in left.values() for change in changes if isinstance(change, dict)]
    return [each for change in found for each in change.get(what, {}).items()]


def _text_of(lock: Path) -> str:
    """Return what a lock holds; nothing where there is none that can be read."""
    try:
        return lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _dvc(folder: Path, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    # Which project DVC is to work in is said here, and not by a DVC that may have started this process.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode and not may_fail:
        raise SpaceWarpsError(f"dvc {arguments[0]} failed in {folder}: {_fault(done.stderr)}")
    return done


def _fault(text: str) -> str:
    """Return the line of what DVC said that tells what is wrong: its first error."""
    lines = text.strip().splitlines() or ["DVC gave no message"]
    return next((line for line in lines if line.startswith(_ERROR)), lines[-1]).removeprefix(_ERROR)
