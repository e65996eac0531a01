"""The commits that have what a run had changed without a commit: that of its DVC experiment, or a later one."""

from collections.abc import Sequence
from pathlib import Path

from spacewarps.commands.recorded_outputs import differing_outputs, locks_at
from spacewarps.git import run_git
from spacewarps.tracking.recorded_run import RecordedRun


def commits_with_changes(recorded: RecordedRun, folder: Path, locks: Sequence[Path]) -> list[str]:
    """Return each commit that changes the same files and whose ``locks`` have the hash of every output of the run.

    That of the run's own experiment comes first, as DVC commits what it ran with; then the last. Whether ``locks`` have
    the hashes of the code beside them as well is left to DVC.

    Args:
        recorded: a run with changes.
        folder: the project's, in git.
        locks: relative to it.
    """
    if not recorded.outputs:
        return []
    # Code and results may have been committed one after the other, but not before the run's own commit.
    paths = [*map(str, locks), *(f":(top,literal){name}" for name in recorded.changed)]
    found = run_git(folder, "log", "--all", f"^{recorded.commit}", "--format=%H", "--", *paths).stdout.split()
    own = commit_of_experiment(recorded, folder)
    later = sorted(found, key=lambda commit: commit != own)
    return [
        commit
        for commit in later
        if _changed_files(folder, recorded.commit, commit).issuperset(recorded.changed)
        and not differing_outputs(recorded.outputs, *locks_at(commit, folder, locks))
    ]


def commit_of_experiment(recorded: RecordedRun, folder: Path) -> str | None:
    """Return the commit that DVC has made of the run's experiment; None where it was none, or is not here."""
    base, name = recorded.commit, recorded.experiment
    ref = f"refs/exps/{base[:2]}/{base[2:]}/{name}"
    return (name and run_git(folder, "rev-parse", "--verify", "--quiet", ref, may_fail=True).stdout.strip()) or None


def experiment_at(commit: str, folder: Path) -> str | None:
    """Return the name of a DVC experiment that ``commit`` is of, if it is of one."""
    format_of_name = "--format=%(refname:lstrip=4)"
    names = run_git(folder, "for-each-ref", f"--points-at={commit}", format_of_name, "refs/exps/*/*/*").stdout
    return next(iter(names.splitlines()), None)


def _changed_files(folder: Path, before: str, after: str) -> set[str]:
    told = run_git(folder, "diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after).stdout
    return set(told.split("\0"))
