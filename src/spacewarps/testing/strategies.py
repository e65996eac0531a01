"""What every strategy must do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import CandidateResult, Step
from spacewarps.search.strategies.base import Proposal, Strategy
from spacewarps.testing.data import bits, small_folds, small_search


class StrategyConformance(ABC):
    """Inherited by the tests of a strategy, which say how one is made."""

    @abstractmethod
    def make(self) -> Strategy:
        """Return the strategy."""

    def test_what_it_proposes_can_be_tried(self) -> None:
        """At every step at least one candidate, none twice, each a block on trial on a trunk that is there."""
        asked = _Asked(self.make())
        small_search(small_folds(), strategy=asked)
        assert asked.told
        for trunks, blocks, proposals in asked.told:
            assert proposals
            assert len({(proposal.trunk, proposal.block) for proposal in proposals}) == len(proposals)
            assert all(0 <= proposal.trunk < trunks and proposal.block in blocks for proposal in proposals)
            assert 1 <= trunks <= max(1, asked.width)

    def test_the_same_search_has_the_same_bits(self) -> None:
        """Made anew, and asked a second time."""
        folds, strategy = small_folds(), self.make()
        first = bits(small_search(folds, strategy=strategy))
        assert first == bits(small_search(folds, strategy=strategy)) == bits(small_search(folds, strategy=self.make()))


class _Asked(Strategy):
    """Notes what a strategy is asked, and what it proposes."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.told: list[tuple[int, Sequence[BlockSpec], list[Proposal]]] = []

    @property
    def width(self) -> int:
        return self._strategy.width

    def propose(
        self, trunks: Sequence[CandidateResult | None], blocks: Sequence[BlockSpec], steps: Sequence[Step]
    ) -> list[Proposal]:
        proposals = self._strategy.propose(trunks, blocks, steps)
        self.told.append((len(trunks), blocks, proposals))
        return proposals
