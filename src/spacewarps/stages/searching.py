"""The search as the params describe it, for every stage and command that runs one."""

from collections.abc import Sequence

from spacewarps.params import SearchParams
from spacewarps.search.executors.base import Executor
from spacewarps.search.folds import Fold
from spacewarps.search.journal import Journal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult, search_folds
from spacewarps.search.strategies import make_strategy
from spacewarps.stages.context import Stage
from spacewarps.stages.learning import set_up


def run_search(
    stage: Stage,
    search: SearchParams,
    folds: Sequence[Fold],
    *,
    seed: int,
    executor: Executor,
    journal: Journal,
    observer: SearchObserver,
) -> SearchResult:
    """Search on ``folds`` as ``search`` says, and for all else as the params of ``stage`` do."""
    return search_folds(
        folds,
        search,
        strategy=make_strategy(search.strategy, search),
        configuration=stage.params.model,
        optimiser=stage.params.optimiser,
        compute=set_up(stage, search.threads),
        seed=seed,
        executor=executor,
        journal=journal,
        observer=observer,
    )
