"""What the stages have in common: params turned into the settings of each part."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacewarps.params import Params
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import PreparedSurvey, load_prepared_survey
from spacewarps.tracking.pipeline_run import StageRun, flatten, stage_run
from spacewarps.tracking.store import project_root
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.fit import Optimiser


@dataclass(frozen=True)
class Stage:
    """Params, and where the files of this project are."""

    name: str
    params: Params

    @contextmanager
    def tracked(self) -> Iterator[StageRun]:
        """Open this stage's MLflow run."""
        with stage_run(self.name, flatten(self.params.model_dump())) as run:
            yield run

    @functools.cached_property
    def survey(self) -> PreparedSurvey:
        """The prepared survey."""
        return load_prepared_survey(self.prepared)

    def split(self, name: str) -> Space_Galaxi:
        """Return one split, the training split with its augmentation."""
        augmentation = Augmentation(**self.params.augment.model_dump()) if name == "train" else None
        return Space_Galaxi(self.survey, split=name, augmentation=augmentation)

    def compute(self, threads: int) -> Compute:
        """Set this process up to compute on as many threads."""
        compute = self.params.compute
        return set_up_compute(compute.device, compute.precision, threads)

    def optimiser(self) -> Optimiser:
        """Return how weights are learned."""
        return Optimiser(**self.params.optimiser.model_dump())

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


def write_csv(path: Path, table: Any) -> None:
    """Write a data frame to ``path``."""
    table.to_csv(path, index=False, lineterminator="\n")
