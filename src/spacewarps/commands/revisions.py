"""The project's files as they are, or as they were in an experiment, a branch, a tag, a commit, or for a model."""

import difflib
import errno
import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import GitFileSystem
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev
from dvc_data.index import DataIndexDirError
from scmrepo.exceptions import SCMError
from scmrepo.git import Git

from spacewarps.errors import SpaceWarpsError
from spacewarps.git import run_git
from spacewarps.reading import read_bytes

# What is wrong is said here, in one line.
logging.getLogger("dvc").setLevel(logging.CRITICAL)

#: The files as they are.
WORKSPACE = "workspace"

_NAMED = 5
# What an address of MLflow begins with that names a registered model.
_MODEL = "models:/"


@dataclass(frozen=True)
class Revision:
    """One state of the project.

    Args:
        name: what the user calls it.
        commit: its commit; empty for the files as they are.
        files: what DVC and git hold of that commit; nothing for the files as they are.
        folder: the project's, in ``files``.
    """

    name: str
    commit: str = ""
    files: Any = None
    folder: str = "/"

    def read(self, path: PurePosixPath, *, at_most: int) -> bytes:
        """Return what the file at ``path``, relative to the project, holds; from git, or from DVC's cache or remote.

        Raises:
            OSError: it is not there, cannot be read, or holds more than ``at_most`` bytes.
        """
        if self.files is None:
            return read_bytes(Path(path), at_most=at_most)
        place = str(PurePosixPath(self.folder, path))
        try:
            with self.files.open(place, "rb") as file:
                content: bytes = file.read(at_most + 1)
        except DataIndexDirError as error:
            # Of a folder that DVC keeps, not even the list of its files is at hand.
            if error.__cause__ is None or isinstance(error.__cause__, FileNotFoundError):
                raise FileNotFoundError(errno.ENOENT, "no such file", place) from None
            raise _no_answer(error.__cause__) from None
        except OSError:
            raise
        except Exception as error:
            # Each kind of remote fails with errors of its own.
            raise _no_answer(error) from None
        if len(content) > at_most:
            raise OSError(f"larger than {at_most:,} bytes")
        return content


def _no_answer(error: BaseException) -> OSError:
    return OSError(f"DVC cannot have it ({' '.join(str(error).split()):.200})")


def find_revision(name: str) -> Revision:
    """Return the state of the project that ``name`` names.

    Raises:
        SpaceWarpsError: there is none, or the project is not under git and DVC.
    """
    if name == WORKSPACE:
        return Revision(name)
    # What git refuses it explains, where DVC fails with an error of a library.
    run_git(Path.cwd(), "rev-parse", "--git-dir", may_fail=True)
    try:
        repo = Repo()
    except NotDvcRepoError:
        raise SpaceWarpsError(f"{Path.cwd()}: not under DVC, so there is no {name!r:.80}") from None
    except DvcException as error:
        raise SpaceWarpsError(f"DVC cannot be used here: {' '.join(str(error).split()):.200}") from None
    with repo:
        if not isinstance(repo.scm, Git):
            raise SpaceWarpsError(f"{Path.cwd()}: not under git, so there is no {name!r:.80}")
        try:
            named = _commit_of_model(name) if name.startswith(_MODEL) else name
            # An empty name would be the last commit.
            if not name.isprintable() or not name.strip():
                raise RevError(f"unknown Git revision {name!r}")
            # Of what git holds, a tag leads to a commit, and a file does not.
            commit = str(resolve_rev(repo.scm, f"{resolve_rev(repo.scm, named)}^{{commit}}"))
        # The latter from git without a commit, where DVC asks for the last one before it looks for experiments.
        except (RevError, SCMError) as error:
            raise SpaceWarpsError(_unknown(name, str(error), _names(repo))) from None
        files, top = _files_at(repo, commit)
    folder = PurePosixPath(top, Path.cwd().resolve().relative_to(Path(repo.root_dir).resolve()).as_posix())
    return Revision(name, commit, files, str(folder))


def _commit_of_model(address: str) -> str:
    # Takes seconds to import, for what is seldom asked for.
    from spacewarps.commands.registered_models import commit_of_model

    return commit_of_model(address)


def _files_at(repo: Repo, commit: str) -> tuple[DVCFileSystem, str]:
    """Return what git and DVC hold of ``commit``, and where in it the project is.

    Git's top may lie above the project. Data is looked for in the cache and in the remotes that the project has now: a
    remote may be younger than the commit, and the place of one is relative to the settings on disk.
    """
    git = Git(repo.scm.root_dir)
    place = Path(repo.root_dir).resolve().relative_to(Path(git.root_dir).resolve()).as_posix()
    then = Repo(
        str(PurePosixPath("/", place)),
        fs=GitFileSystem(scm=git, rev=commit),
        scm=git,
        # The commit may be older than the project, which is then said as of any file that is not there.
        uninitialized=True,
        config={**repo.config, "cache": {**repo.config["cache"], "dir": repo.cache.local_cache_dir}},
    )
    return DVCFileSystem(then), str(PurePosixPath("/", PurePosixPath("/", place).relative_to(then.root_dir)))


def _names(repo: Repo) -> list[str]:
    experiments = [name for found in repo.experiments.ls(all_commits=True).values() for name, _ in found]
    return sorted({*experiments, *repo.scm.list_branches(), *repo.scm.list_tags(), WORKSPACE})


def _unknown(name: str, error: str, known: list[str]) -> str:
    if "ambiguous" in error:
        return f"several experiments are called {name!r:.80}; name one by its commit (`dvc exp list --all-commits`)"
    if known == [WORKSPACE]:
        return f"git has no commit here yet, so there is no {name!r:.80}; commit a result first"
    close = difflib.get_close_matches(name, known, n=_NAMED, cutoff=0.5)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    advice = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known[:_NAMED])}{more}"
    return f"no experiment, branch, tag or commit is called {name!r:.80}; {advice}"
