"""What the stages have in common: params, and where files are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spacewarps.params import Params
from spacewarps.settings import as_values
from spacewarps.tracking.pipeline_run import StageRun, flatten, stage_run
from spacewarps.tracking.store import project_root


@dataclass(frozen=True)
class Stage:
    """Params, and where the files of this project are."""

    name: str
    params: Params

    @contextmanager
    def tracked(self) -> Iterator[StageRun]:
        """Open this stage's MLflow run."""
        with stage_run(self.name, flatten(as_values(self.params))) as run:
            yield run

    @property
    def journal(self) -> Path:
        """The folder of the journal: the project's own, also from one of DVC's temporary copies of it."""
        return project_root() / self.params.paths.journal

    @property
    def prepared(self) -> Path:
        """The folder of the prepared survey."""
        return Path(self.params.paths.prepared)

    @property
    def reports(self) -> Path:
        """The folder of reports."""
        return Path(self.params.paths.reports)
