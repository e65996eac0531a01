"""The stage ``simulate``: the demo survey."""

import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.files import replaced_directory
from spacewarps.progress import progress_bar, say
from spacewarps.simulation.demo import simulate_survey
from spacewarps.stages.context import Stage


def run(stage: Stage) -> None:
    """Write the demo survey to ``paths.demo``."""
    n_samples = stage.params.simulate.n_samples
    target = Path(stage.params.paths.demo)
    with stage.tracked(), replaced_directory(target) as folder, progress_bar("simulate", n_samples) as progress:
        try:
            simulate_survey(
                folder, n_samples=n_samples, seed=stage.params.seed, processes=os.cpu_count() or 1, progress=progress
            )
        except BrokenProcessPool:
            raise SpaceWarpsError(
                "a process that draws stamps was killed, for want of memory perhaps; run again"
            ) from None
    say(f"{target}: {n_samples} catalogue rows with their stamps")
