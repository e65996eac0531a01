"""Progressive search with a predictor (Liu et al. 2018, ECCV, arXiv:1712.00559)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spacewarps.model.settings import BLOCK_KINDS, BlockSpec
from spacewarps.search.history import CandidateResult, Step
from spacewarps.search.strategies.base import BeamWidth, Proposal, Strategy
from spacewarps.settings import PositiveInt, settings


@settings
class Pnas(Strategy):
    """Has only the candidates trained that a predictor ranks highest.

    The first step tries every block. From then on a predictor, fitted anew to all candidates trained so far, ranks
    every block on each of the ``beam_width`` best trunks (Liu et al. 2018, algorithm 1); the ``trained_per_step``
    best are trained. Where the paper's predictor is a recurrent network, this one is Bayesian ridge regression
    (MacKay 1992) on what describes the blocks and on the accuracy of the trunk: with tens of candidates, not
    thousands, there is little to fit.

    Args:
        beam_width: how many trunks grow side by side.
        trained_per_step: how many candidates are trained at a step, after the first.

    Raises:
        SettingsError: one of them is out of range.
    """

    beam_width: BeamWidth = 2
    trained_per_step: PositiveInt = 4

    @property
    def width(self) -> int:
        """``beam_width`` trunks grow."""
        return self.beam_width

    def propose(
        self, trunks: Sequence[CandidateResult | None], blocks: Sequence[BlockSpec], steps: Sequence[Step]
    ) -> list[Proposal]:
        """Return the extensions that the predictor ranks highest, each with its prediction."""
        extensions = self.all_extensions(trunks, blocks)
        known = [result for step in steps for result in step.candidates if result.finished]
        if not known:
            return extensions
        # Imported when needed, as reading params should not wait for it.
        from sklearn.linear_model import BayesianRidge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        predictor = make_pipeline(StandardScaler(), BayesianRidge())
        predictor.fit(
            np.stack([_describe(result.parent, result.candidate.block) for result in known]),
            np.array([result.score.accuracy for result in known]),
        )
        described = np.stack([_describe(trunks[proposal.trunk], proposal.block) for proposal in extensions])
        predictions = [float(accuracy) for accuracy in predictor.predict(described)]
        # A stable sort: equal predictions stay in the order of the params.
        best = sorted(range(len(extensions)), key=lambda number: -predictions[number])[: self.trained_per_step]
        return [replace(extensions[number], predicted=predictions[number]) for number in sorted(best)]


def _describe(trunk: CandidateResult | None, block: BlockSpec) -> NDArray[np.float64]:
    """Return what the predictor sees of a network: its last block, the trunk below it, and how good that was."""
    below = [result.candidate.block for result in trunk.path] if trunk else []
    kinds = [float(block.kind == kind) for kind in BLOCK_KINDS]
    widths = [np.log2(part.k) for part in (*below, block)]
    accuracy = trunk.score.accuracy if trunk else 0.0
    return np.array([len(below), widths[-1], np.mean(widths), block.kernel_size, accuracy, *kinds])
