"""How far an evaluation may have come, for tests of what keeps it."""

import math

from spacewarps.model.network import ProgressiveModel
from spacewarps.model.settings import BlockSpec, Configuration
from spacewarps.model.storage import pack_model
from spacewarps.search.candidate import Checkpoint, Evaluation
from spacewarps.search.history import Candidate
from spacewarps.search.settings import CandidateSettings, WarmStart
from spacewarps.training.compute import Compute, named_random_state
from spacewarps.training.score import Epoch, Outcomes, Score
from spacewarps.training.settings import Optimiser


def network(k: int = 1) -> bytes:
    with named_random_state(k, "initialisation"):
        model = ProgressiveModel((1, 4, 4), (), ("a", "b"), Configuration(1, 1, 0.0))
        model.add_block(k)
    return pack_model(model)


NETWORK = network()
EPOCHS = (Epoch(1, math.inf, Score(0.1, math.inf)), Epoch(2, 1 / 3, Score(2 / 3, 1e-300)))
OUTCOMES = (Outcomes(bytes(range(15))), Outcomes(bytes(range(15, 30))))
HALF = Checkpoint(EPOCHS[:1], OUTCOMES[:1], 17, NETWORK, b"state \n\n\x00\xff")
WHOLE = Checkpoint(EPOCHS, OUTCOMES, 17, NETWORK, None)


def evaluation_on(compute: Compute) -> Evaluation:
    settings = CandidateSettings(4, WarmStart("siblings"), Optimiser(), "all")
    return Evaluation(Candidate(2, BlockSpec(4, "conv", 3), 11), 0, NETWORK, "deeper", 12, settings, compute, 4)
