"""What the stages have in common: params, where files are, and how outputs are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spacewarps.files import Outputs, outputs
from spacewarps.params import Params
from spacewarps.settings import as_values, flatten
from spacewarps.stages.dependencies import Dependencies
from spacewarps.tracking.root import project_root

if TYPE_CHECKING:
    from spacewarps.tracking.pipeline_run import StageRun


@dataclass(frozen=True)
class Stage:
    """Params, where the files of this project are, and what the stage began with."""

    name: str
    params: Params
    began_with: Dependencies

    @contextmanager
    def tracked(self) -> Iterator["StageRun"]:
        """Open this stage's MLflow run."""
        # MLflow takes seconds to import, and not every command has a run.
        from spacewarps.tracking.pipeline_run import stage_run

        with stage_run(self.name, flatten(as_values(self.params))) as run:
            yield run

    @contextmanager
    def outputs(self) -> Iterator[Outputs]:
        """Hand out names as :func:`spacewarps.files.outputs`; nothing is put in place if what made it has changed.

        Raises:
            DependenciesChangedError: params, code or inputs are not those that the stage began with.
        """
        with outputs() as out:
            yield out
            self.began_with.check_unchanged()

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
