"""How a metric gets its interval, and a survey its outer folds."""

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


@settings
class CrossvalidationSettings:
    """The outer folds of a cross-validation.

    Args:
        folds: the parts that all sources are dealt into; each is the test split of one search.
        repeats: how often that is done, with other parts and other random numbers.

    Raises:
        SettingsError: an argument is out of range.
    """

    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 2
