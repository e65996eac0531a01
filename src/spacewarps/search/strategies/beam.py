"""Beam search: the best few trunks grow side by side."""

from collections.abc import Sequence

from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import CandidateResult, Step
from spacewarps.search.strategies.base import BeamWidth, Proposal, Strategy
from spacewarps.settings import settings


@settings
class Beam(Strategy):
    """Tries every block on each of the ``beam_width`` best trunks, and keeps as many of all that come of it.

    Args:
        beam_width: how many trunks grow side by side.

    Raises:
        SettingsError: it is out of range.
    """

    beam_width: BeamWidth = 2

    @property
    def width(self) -> int:
        """``beam_width`` trunks grow."""
        return self.beam_width

    def propose(
        self,
        trunks: Sequence[CandidateResult | None],
        blocks: Sequence[BlockSpec],
        steps: Sequence[Step],  # noqa: ARG002
    ) -> list[Proposal]:
        """Return every block on every trunk."""
        return self.all_extensions(trunks, blocks)
