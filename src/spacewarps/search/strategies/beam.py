"""Beam search: the best few trunks grow side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from spacewarps.model.blocks import BlockSpec
from spacewarps.search.history import CandidateResult, Step
from spacewarps.search.strategies.base import Proposal, Strategy, check_at_least_one


@dataclass(frozen=True)
class Beam(Strategy):
    """Tries every block on each of the ``beam_width`` best trunks, and keeps as many of all that come of it.

    Args:
        beam_width: how many trunks grow side by side.

    Raises:
        ParamsError: it is below 1.
    """

    beam_width: int = 2

    def __post_init__(self) -> None:
        check_at_least_one(beam_width=self.beam_width)

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
