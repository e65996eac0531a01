"""Which blocks a step tries, and on how many trunks. One strategy a module; its name here makes it a param's value."""

from spacewarps.search.strategies.base import Strategy
from spacewarps.search.strategies.beam import Beam
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.search.strategies.pnas import Pnas

STRATEGIES: dict[str, type[Strategy]] = {"greedy": Greedy, "beam": Beam, "pnas": Pnas}
