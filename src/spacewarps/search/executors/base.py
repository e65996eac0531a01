"""What the search asks of any place where candidates are evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from spacewarps.errors import SpaceWarpsError
from spacewarps.search.candidate import EpochEnded, Evaluation, Trained
from spacewarps.search.folds import Fold
from spacewarps.training.compute import Compute

Job = Sequence[Evaluation]


class ExecutorError(SpaceWarpsError):
    """Candidates cannot be evaluated where they should be."""


@dataclass(frozen=True)
class Ended:
    """A job is done."""


@dataclass(frozen=True)
class Lost:
    """The worker of a job is gone, and the job with it."""

    reason: str


Event = Trained | EpochEnded | Ended | Lost


class Executor(ABC):
    """Runs jobs, each a few evaluations that advance together, and says what happens in them.

    Leaving the ``with`` block ends everything that it started, finished or not, within seconds.

    Args:
        folds: the data; an evaluation names its fold by the number.
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        self.folds = tuple(folds)

    @classmethod
    @abstractmethod
    def from_settings(cls, folds: Sequence[Fold], compute: Compute, settings: Any) -> Self:
        """Return one for these folds; ``settings`` are its own (:mod:`spacewarps.search.executors.settings`)."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many jobs run at once; no more are submitted before one has ended or is lost."""

    @abstractmethod
    def submit(self, ticket: int, job: Job) -> None:
        """Start ``job``; its events carry ``ticket``."""

    @abstractmethod
    def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:
        """Yield what has happened since the last call; wait for something to happen, at most ``seconds``.

        Raises:
            SpaceWarpsError: what a job raised.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Give up the jobs that have not ended: nothing is heard of them any more, and others can be submitted."""

    @abstractmethod
    def close(self) -> None:
        """End everything, finished or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
