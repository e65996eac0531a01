"""What the stages with a network have in common: params turned into the settings of each part."""

from spacewarps.stages.context import Stage
from spacewarps.survey.augmentation import Augmentation
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.survey.prepared import load_prepared_survey
from spacewarps.training.compute import Compute, set_up_compute
from spacewarps.training.fit import Optimiser


def open_splits(stage: Stage, *names: str) -> list[Space_Galaxi]:
    """Return splits of the prepared survey, the training split with its augmentation."""
    survey = load_prepared_survey(stage.prepared)
    augmentation = Augmentation(**stage.params.augment.model_dump())
    return [Space_Galaxi(survey, split=name, augmentation=augmentation if name == "train" else None) for name in names]


def set_up(stage: Stage, threads: int) -> Compute:
    """Set this process up to compute on as many threads, as the stage's params say."""
    compute = stage.params.compute
    return set_up_compute(compute.device, compute.precision, threads)


def optimiser_of(stage: Stage) -> Optimiser:
    """Return how weights are learned."""
    return Optimiser(**stage.params.optimiser.model_dump())
