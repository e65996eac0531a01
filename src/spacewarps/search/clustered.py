"""How far a mean over samples can be trusted where the samples of one source are alike."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit


@dataclass(frozen=True)
class Estimate:
    """A mean over samples, and its standard error, clustered by source.

    Args:
        mean: over the samples, or over the means of the classes.
        error: infinite where there are too few sources to tell.
        freedom: the degrees of freedom of the error.
    """

    mean: float
    error: float
    freedom: float

    def above(self, bound: float, doubt: float) -> bool:
        """Say whether the mean is above ``bound`` by more than noise, but for a chance of ``doubt`` (Student's t)."""
        return self.mean - bound > self.errors_above(doubt) * self.error

    def errors_above(self, doubt: float) -> float:
        """Return how many standard errors above a bound leave a chance of ``doubt`` (Student's t)."""
        return -float(stdtrit(self.freedom, doubt))

    def chance_to_end_above(self, errors: float, share: float, bound: float = 0.0) -> float:
        """Return the chance that the mean over all samples will be above ``bound`` by so many of its standard errors.

        That is the predictive power of an interim analysis with a flat prior (Spiegelhalter, Freedman & Blackburn 1986,
        Controlled Clinical Trials 7, 8): the number of errors in the end is normal around ``z / sqrt(share)`` with a
        variance of ``1 / share - 1``, for ``z`` errors so far. Where the error is unknown or 0, the chance is 1.

        Args:
            errors: how many.
            share: the share of all samples that this estimate has seen, below 1.
            bound: what the mean is compared with.
        """
        if not 0 < self.error < math.inf:
            return 1.0
        centre = (self.mean - bound) / self.error / math.sqrt(share)
        return float(ndtr((centre - errors) / math.sqrt(1 / share - 1)))


UNKNOWN = Estimate(math.nan, math.inf, 1.0)


def weights_of(classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what each sample counts for, ``[N]``, in the mean of the means of its ``classes``; together 1."""
    counts = np.bincount(classes)
    weights: NDArray[np.float64] = 1 / (counts[classes] * np.count_nonzero(counts))
    return weights


def estimate(values: NDArray[np.float64], sources: NDArray[np.str_], classes: NDArray[np.int64]) -> Estimate:
    """Return the mean over classes of the mean of ``values``, and how far it can be trusted.

    The samples of one source are no independent witnesses: what counts is the scatter of their sums (Liang & Zeger
    1986, Biometrika 73, 13). Each class has the variance of as many witnesses as it has sources, so the few of a rare
    class decide; the degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2, 110). A class of one source
    has a variance that nobody knows.

    Args:
        values: of each sample, ``[N]``.
        sources: of each sample, ``[N]``.
        classes: of each sample, ``[N]``, from 0; all 0 for the plain mean.
    """
    weights = weights_of(classes)
    mean = math.fsum(weights * values)
    _, clusters = np.unique(sources, return_inverse=True)
    totals, counts = [], []
    for number in np.unique(classes):
        own = classes == number
        deviations = weights[own] * (values[own] - math.fsum(values[own]) / np.count_nonzero(own))
        totals.append(np.bincount(clusters[own], weights=deviations, minlength=clusters.max() + 1))
        counts.append(len(np.unique(clusters[own])))
    if min(counts) == 1:
        return Estimate(mean, math.inf, 1.0)
    variances = [math.fsum(total**2) * count / (count - 1) for total, count in zip(totals, counts, strict=True)]
    # Samples of one source may be of several classes.
    shared = [
        2 * math.fsum(one * other) * math.sqrt(m * n / ((m - 1) * (n - 1)))
        for (one, m), (other, n) in itertools.combinations(zip(totals, counts, strict=True), 2)
    ]
    variance = max(0.0, math.fsum([*variances, *shared]))
    spread = math.fsum(each**2 / (count - 1) for each, count in zip(variances, counts, strict=True))
    freedom = math.fsum(variances) ** 2 / spread if spread else float(min(counts) - 1)
    return Estimate(mean, math.sqrt(variance), freedom)
