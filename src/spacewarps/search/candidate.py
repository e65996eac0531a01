"""The evaluation of one candidate."""

import copy
import math
from dataclasses import dataclass
from typing import Literal

from spacewarps.errors import ParamsError
from spacewarps.model.morphisms import scale_and_jitter
from spacewarps.model.progressive import ProgressiveModel
from spacewarps.search.history import Candidate, CandidateResult
from spacewarps.search.observer import SearchObserver
from spacewarps.seeds import torch_generator
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.fit import Optimiser, fit


@dataclass(frozen=True)
class WarmStart:
    """How a candidate's first weights come from the last winner's.

    Args:
        mode: ``previous`` copies them; ``none`` draws all weights anew.
        scale: multiplies the copies.
        jitter: the noise added to the copies, in standard deviations of each tensor's own weights.

    Raises:
        ParamsError: an argument is out of range.
    """

    mode: Literal["none", "previous"] = "previous"
    scale: float = 1.0
    jitter: float = 0.05

    def __post_init__(self) -> None:
        if self.mode not in ("none", "previous"):
            raise ParamsError(f"warm start's mode must be 'none' or 'previous', but got mode={self.mode!r}")
        if not 0 < self.scale < math.inf or not 0 <= self.jitter < math.inf:
            raise ParamsError(
                f"warm start's scale must be above 0 and its jitter not negative, "
                f"but got scale={self.scale}, jitter={self.jitter}"
            )


def evaluate_candidate(
    winner: ProgressiveModel,
    candidate: Candidate,
    train: Space_Galaxi,
    validation: Space_Galaxi,
    *,
    epochs: int,
    warm_start: WarmStart,
    optimiser: Optimiser,
    compute: Compute,
    observer: SearchObserver,
) -> tuple[CandidateResult, ProgressiveModel]:
    """Train the last winner with the candidate's block added, and score it on validation.

    A pure function of its arguments (the observer only listens): ``winner`` stays as it is, and the result has the
    same bits whatever ran before.
    """
    model = grow(winner, candidate, warm_start)
    history = fit(
        model,
        train,
        validation,
        epochs=epochs,
        optimiser=optimiser,
        compute=compute,
        seed=candidate.seed,
        keep="last",
        on_epoch=lambda epoch: observer.epoch_finished(candidate, epoch),
        on_batch=observer.batch_trained,
    )
    return CandidateResult(candidate, winner.map_shape[0], model.trainable_params, tuple(history)), model


def grow(winner: ProgressiveModel, candidate: Candidate, warm_start: WarmStart) -> ProgressiveModel:
    """Return a copy of ``winner`` with the candidate's block on top, its weights started as ``warm_start`` says."""
    with named_random_state(candidate.seed, "initialisation"):
        if warm_start.mode == "none":
            model = winner.with_new_weights()
        else:
            model = copy.deepcopy(winner)
            jitter = torch_generator(candidate.seed, "jitter")
            scale_and_jitter(model, warm_start.scale, warm_start.jitter, jitter)
        model.add_block(candidate.k)
    return model
