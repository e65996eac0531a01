"""One candidate after the other, in this process."""

from collections.abc import Iterator, Sequence
from typing import Self

from spacewarps.search.candidate import evaluate
from spacewarps.search.executors.base import Ended, Event, Executor, Job
from spacewarps.search.executors.settings import InlineSettings
from spacewarps.search.folds import Fold
from spacewarps.training.compute import Compute


class InlineExecutor(Executor):
    """Evaluates in this process, while it is waited for.

    Args:
        folds: the data; an evaluation names its fold by the number.
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        super().__init__(folds)
        self._submitted: tuple[int, Job] | None = None

    @classmethod
    def from_settings(
        cls,
        folds: Sequence[Fold],
        compute: Compute,  # noqa: ARG003
        settings: InlineSettings,  # noqa: ARG003
    ) -> Self:
        """Return one; it has no settings."""
        return cls(folds)

    @property
    def workers(self) -> int:
        """One job at a time."""
        return 1

    def submit(self, ticket: int, job: Job) -> None:
        """Keep the job for the next call of ``wait``."""
        self._submitted = (ticket, job)

    def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:  # noqa: ARG002
        """Run the job that was submitted, and yield what happens."""
        if self._submitted is not None:
            ticket, job = self._submitted
            self._submitted = None
            for event in evaluate(job, self.folds):
                yield ticket, event
            yield ticket, Ended()

    def abandon(self) -> None:
        """Forget the job that was submitted."""
        self._submitted = None

    def close(self) -> None:
        """Forget the job that was submitted."""
        self.abandon()
