"""One candidate after the other, in this process."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from spacewarps.search.candidate import evaluate
from spacewarps.search.executors.base import Ended, Event, Executor, Job
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute


class InlineExecutor(Executor):
    """Evaluates in this process, while it is waited for.

    Args:
        train: the samples to learn from, with their augmentation.
        validation: the samples to score on.
    """

    def __init__(self, train: Space_Galaxi, validation: Space_Galaxi) -> None:
        super().__init__(train, validation)
        self._submitted: tuple[int, Job] | None = None

    @classmethod
    def from_settings(
        cls,
        train: Space_Galaxi,
        validation: Space_Galaxi,
        compute: Compute,  # noqa: ARG003
        settings: Mapping[str, Any],  # noqa: ARG003
    ) -> Self:
        """Return one; it has no settings."""
        return cls(train, validation)

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
            for event in evaluate(job, *self.data):
                yield ticket, event
            yield ticket, Ended()

    def abandon(self) -> None:
        """Forget the job that was submitted."""
        self._submitted = None

    def close(self) -> None:
        """Forget the job that was submitted."""
        self.abandon()
