"""Which blocks a step tries, and on how many trunks. One strategy a module; its name here makes it a param's value."""

from dataclasses import fields, is_dataclass
from typing import Any

from spacewarps.search.strategies.base import Strategy
from spacewarps.search.strategies.beam import Beam
from spacewarps.search.strategies.greedy import Greedy
from spacewarps.search.strategies.pnas import Pnas

STRATEGIES: dict[str, type[Strategy]] = {"greedy": Greedy, "beam": Beam, "pnas": Pnas}


def make_strategy(name: str, **settings: Any) -> Strategy:
    """Return the strategy called ``name``, with those of ``settings`` that it knows.

    >>> make_strategy("beam", beam_width=3, trained_per_step=8)
    Beam(beam_width=3)

    Raises:
        ParamsError: one of them is out of range.
    """
    strategy = STRATEGIES[name]
    known = {field.name for field in fields(strategy)} if is_dataclass(strategy) else set[str]()
    return strategy(**{setting: value for setting, value in settings.items() if setting in known})
