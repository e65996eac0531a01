"""Whether one network is better than another on the same samples by more than noise."""

from dataclasses import dataclass, replace

import numpy as np

from spacewarps.commands.answers import Answers
from spacewarps.search.clustered import Estimate, estimate

LOG_LOSS, ACCURACY = "log loss", "accuracy"


@dataclass(frozen=True)
class Gain:
    """By how much one network is better than another, on average over the samples that both answered.

    Args:
        measure: :data:`LOG_LOSS` or :data:`ACCURACY`.
        value: what the network comes to by itself.
        estimate: how much better it is, as a mean over samples whose error is clustered by source; below 0 if worse.
    """

    measure: str
    value: float
    estimate: Estimate

    def beats(self, confidence: float) -> bool:
        """Say whether the network is better by more than noise, as :meth:`verdict` has it."""
        return self.estimate.above(0.0, (1 - confidence) / 2)

    def verdict(self, confidence: float) -> str:
        """Return whether the two differ by more than noise, whichever is better."""
        doubt = (1 - confidence) / 2
        if not np.isfinite(self.estimate.error):
            return "too few sources to tell"
        for gain, word in ((self.estimate, "better"), (replace(self.estimate, mean=-self.estimate.mean), "worse")):
            if gain.above(0.0, doubt):
                return f"{word}, by more than noise"
        return "within noise" if self.estimate.error else "no difference"

    @property
    def told(self) -> str:
        """How much lower or higher it is, with the standard error."""
        up = (self.estimate.mean > 0) == (self.measure == ACCURACY)
        return f"{abs(self.estimate.mean):.4f} +- {self.estimate.error:.4f} {'higher' if up else 'lower'}"


def gains(new: Answers, old: Answers) -> tuple[Gain, Gain]:
    """Return by how much ``new`` is better than ``old`` in log loss, and in accuracy; both of the same samples."""
    as_one = np.zeros(len(new), dtype=np.int64)
    return (
        Gain(LOG_LOSS, float(new.losses.mean()), estimate(old.losses - new.losses, new.sources, as_one)),
        Gain(ACCURACY, float(new.right.mean()), estimate(new.right - old.right, new.sources, as_one)),
    )


def same_samples(one: Answers, other: Answers) -> bool:
    """Say whether both are of the same samples, which have the same sources and classes in both."""
    return np.array_equal(one.samples.to_numpy(dtype=str), other.samples.to_numpy(dtype=str))
