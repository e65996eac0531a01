"""The greedy strategy: every block on the one best trunk."""

from collections.abc import Sequence

from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import CandidateResult, Step
from spacewarps.search.strategies.base import Proposal, Strategy
from spacewarps.settings import settings


@settings
class Greedy(Strategy):
    """Tries every block on the last winner, and keeps the best."""

    @property
    def width(self) -> int:
        """One trunk grows."""
        return 1

    def propose(
        self,
        trunks: Sequence[CandidateResult | None],
        blocks: Sequence[BlockSpec],
        steps: Sequence[Step],  # noqa: ARG002
    ) -> list[Proposal]:
        """Return every block."""
        return self.all_extensions(trunks, blocks)
