"""How large the demo survey is."""

from typing import Annotated

from pydantic import Field

from spacewarps.settings import settings

MIN_SAMPLES = 60
"""Fewer rows than this cannot hold every fault of a real delivery."""

MAX_SAMPLES = 300_000
"""With more rows than this the regions grow into each other."""


@settings
class SimulationSettings:
    """The demo survey.

    Args:
        n_samples: the rows of its catalogue.

    Raises:
        SettingsError: it is out of range.
    """

    n_samples: Annotated[int, Field(ge=MIN_SAMPLES, le=MAX_SAMPLES)] = 1000
