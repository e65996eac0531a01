"""How a metric gets its interval."""

from typing import Annotated

from pydantic import Field

from spacewarps.settings import settings


@settings
class BootstrapSettings:
    """The bootstrap over sources that gives a metric its interval.

    Args:
        bootstrap_resamples: how often the sources are drawn.
        confidence: the share of the resamples that the interval holds.

    Raises:
        SettingsError: an argument is out of range.
    """

    bootstrap_resamples: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
