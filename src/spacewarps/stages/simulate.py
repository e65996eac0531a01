"""The stage ``simulate``: the demo survey."""

from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.progress import progress_bar, say
from spacewarps.resources import available_cores
from spacewarps.simulation.demo import simulate_survey
from spacewarps.stages.context import Stage


def run(stage: Stage) -> None:
    """Write the demo survey to ``paths.demo``."""
    n_samples = stage.params.simulate.n_samples
    target = Path(stage.params.paths.demo)
    with stage.tracked(), stage.outputs() as out:
        folder = out.folder(target)
        try:
            with progress_bar("simulate", n_samples) as progress:
                simulate_survey(
                    folder, n_samples=n_samples, seed=stage.params.seed, processes=available_cores(), progress=progress
                )
        except BrokenProcessPool:
            raise SpaceWarpsError(
                "a process that draws stamps was killed, most likely as memory ran out; close what else runs, "
                "and run again"
            ) from None
    say(f"{target}: {n_samples} catalogue rows with their stamps")
