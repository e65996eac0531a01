"""What every journal that remembers must do."""

from abc import ABC, abstractmethod
from dataclasses import replace

from spacewarps.search.candidate import Checkpoint, EpochEnded, evaluate
from spacewarps.search.journal import Journal
from spacewarps.testing.data import bits, small_evaluation, small_folds, small_search

_KEY, _OTHER = "0" * 63 + "1", "0" * 63 + "2"


class JournalConformance(ABC):
    """Inherited by the tests of a journal, which say how one is made."""

    @abstractmethod
    def make(self) -> Journal:
        """Return an empty journal."""

    def test_what_was_written_is_found_and_nothing_else(self) -> None:
        """To the bit, suspended and finished; the later of two replaces the earlier."""
        journal, evaluation = self.make(), small_evaluation(epochs=2)
        assert journal.find(_KEY) is None
        checkpoints = _checkpoints()
        for checkpoint in checkpoints:
            journal.write(_KEY, evaluation, checkpoint)
            assert journal.find(_KEY) == checkpoint
        assert journal.find(_OTHER) is None

    def test_a_claim_can_be_given_up_and_taken_again(self) -> None:
        """By the process that has it."""
        journal = self.make()
        assert journal.claim(_KEY)
        assert journal.claim(_OTHER)
        journal.release(_KEY)
        assert journal.claim(_KEY)

    def test_a_search_that_is_repeated_evaluates_nothing_and_has_the_same_bits(self) -> None:
        """With the journal as without."""
        journal, folds = self.make(), small_folds(2)
        first = small_search(folds, journal=journal)
        second = small_search(folds, journal=journal)
        assert (first.found, second.evaluated) == (0, 0)
        assert second.found == first.evaluated > 0
        assert bits(first) == bits(second) == bits(small_search(folds))


def _checkpoints() -> list[Checkpoint]:
    """Return where an evaluation is suspended after its first epoch, and its end."""
    whole = small_evaluation(epochs=2)
    return [
        event.checkpoint
        for evaluation in (replace(whole, until=1), whole)
        for event in evaluate([evaluation], small_folds())
        if isinstance(event, EpochEnded) and event.checkpoint is not None
    ]
