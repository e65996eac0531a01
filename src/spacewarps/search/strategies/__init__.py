"""Which blocks a step tries, and on how many trunks. One strategy a module; its name here makes it a param's value."""

from spacewarps.search.strategies.base import Strategy
from spacewarps.search.strategies.beam import Beam
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.search.strategies.pnas import Pnas
from spacewarps.settings import part_of

STRATEGIES: dict[str, type[Strategy]] = {"greedy": Greedy, "beam": Beam, "pnas": Pnas}


def make_strategy(name: str, settings: object) -> Strategy:
    """Return the strategy called ``name``.

    Args:
        name: one of :data:`STRATEGIES`.
        settings: has those of the strategy as attributes, beside others.
    """
    return part_of(STRATEGIES[name], settings)
