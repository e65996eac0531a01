"""The training of the final network as the params describe it, for every stage and command that does it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from spacewarps.model.network import ProgressiveModel
from spacewarps.progress import say
from spacewarps.search.executors.base import Executor
from spacewarps.search.executors.registry import make_executor
from spacewarps.search.final import FinalObserver, train_final
from spacewarps.search.folds import Fold
from spacewarps.search.journal import FolderJournal
from spacewarps.stages.context import Stage
from spacewarps.training.compute import Compute
from spacewarps.training.final import Final, Part


def run_training(
    stage: Stage,
    found: ProgressiveModel,
    parts: Sequence[Part],
    *,
    compute: Compute,
    seed: int,
    observer: FinalObserver,
) -> Final:
    """Train the architecture of ``found`` on ``parts``, networks of folds where the search trains candidates."""
    params = stage.params
    with (
        closing(FolderJournal(stage.journal, every_epoch=params.search.checkpoints)) as journal,
        executor_for(stage, parts, compute) as executor,
    ):
        return train_final(
            found,
            parts,
            params.train,
            optimiser=params.optimiser,
            compute=compute,
            seed=seed,
            executor=executor,
            journal=journal,
            observer=observer,
        )


class TrainingProgress(FinalObserver):
    """Advances a bar on the terminal, and says what is waited for."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def batch_trained(self, samples: int) -> None:
        """Advance the bar."""
        self._advance(samples)

    def others_awaited(self, networks: int) -> None:
        """Say so."""
        say(f"  another training has {networks} of the networks in hand; waiting for what it writes to the journal")


@contextmanager
def executor_for(stage: Stage, parts: Sequence[Part], compute: Compute) -> Iterator[Executor | None]:
    """Give the executor of the params for networks of folds; none for a single network, which this process trains."""
    if stage.params.train.data != "folds":
        yield None
        return
    folds = [Fold(part.train, part.held_out) for part in parts if part.held_out is not None]
    with make_executor(stage.params.search.executor, folds, compute, stage.params.search) as executor:
        yield executor
