"""What the search asks of a strategy."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import CandidateResult, Step

BeamWidth = Annotated[int, Field(ge=1, le=64)]


@dataclass(frozen=True)
class Proposal:
    """A block to try.

    Args:
        trunk: the position of the trunk that it stands on, among those that grow.
        block: the block.
        predicted: the accuracy that the strategy expects, if it predicts.
    """

    trunk: int
    block: BlockSpec
    predicted: float | None = None


class Strategy(ABC):
    """Decides which candidates each step has, and how many of them the next step grows from.

    A strategy is the settings of its own, which check themselves (:mod:`spacewarps.settings`).
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """How many of a step's candidates the next one grows from."""

    @abstractmethod
    def propose(
        self, trunks: Sequence[CandidateResult | None], blocks: Sequence[BlockSpec], steps: Sequence[Step]
    ) -> list[Proposal]:
        """Return the candidates of the next step: at least one, and none twice.

        Args:
            trunks: what the step grows from, the best first; at the first step only the empty trunk, which is none.
            blocks: the blocks that it may try.
            steps: all steps so far.
        """

    @staticmethod
    def all_extensions(trunks: Sequence[CandidateResult | None], blocks: Sequence[BlockSpec]) -> list[Proposal]:
        """Return every block on every trunk."""
        return [Proposal(trunk, block) for trunk in range(len(trunks)) for block in blocks]
