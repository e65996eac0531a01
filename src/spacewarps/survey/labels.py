"""Labels as catalogues write them: which are none, which are one and the same, and in which order classes stand."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.columns import listed
from spacewarps.survey.numbers import NO_VALUE, read_number

# These would break the lines of the sample table, or of a message.
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Labels:
    """The labels of rows.

    Args:
        names: the label of each row.
        faults: why it is not the name of a class; None where it is.
    """

    names: list[str]
    faults: list[str | None]

    def check(self, kept: Sequence[int], places: Sequence[str], audit: Audit) -> None:
        """Refuse one class under two spellings of a number; note classes that look alike, and those that are lost.

        Args:
            kept: the rows that are used.
            places: where each row stands.
            audit: notes go there.

        Raises:
            SurveyError: two labels are the same number.
        """
        first: dict[str, str] = {}
        for row in kept:
            first.setdefault(self.names[row], places[row])
        refuse_one_number_in_two_spellings(first)
        for group in lookalikes(first):
            audit.notes.append(
                f"{len(group)} classes differ only in case or spaces: {listed(group)}; should they be one?"
            )
        sound = (name for name, fault in zip(self.names, self.faults, strict=True) if fault is None)
        note_lost_classes(sound, first, audit)


def read_labels(cells: Sequence[str]) -> Labels:
    """Return the labels in ``cells``, in one form of Unicode's."""
    names = [unicodedata.normalize("NFC", label) for label in cells]
    faults = {name: label_fault(name) for name in set(names)}
    return Labels(names, [faults[name] for name in names])


def label_fault(label: str) -> str | None:
    """Return why ``label`` is not the name of a class; None if it is."""
    if not label:
        return "no label"
    if label.lower() in NO_VALUE:
        return f'no label (the word "{label}")'
    return "label with a control character" if CONTROL_CHARACTER.search(label) else None


def refuse_one_number_in_two_spellings(places: Mapping[str, str]) -> None:
    """Refuse labels such as ``0`` and ``0.0``: a reader took one class for integers here and for decimals there.

    Args:
        places: where each label stands first.

    Raises:
        SurveyError: two labels are the same number.
    """
    spelling: dict[float, str] = {}
    for label in sorted(places):
        number = read_number(label)
        if number is None or not math.isfinite(number):
            continue
        other = spelling.setdefault(number, label)
        if other != label:
            raise SurveyError(
                f"{places[label]}: label {label!r:.80} is the same number as {other!r:.80} in {places[other]}, but "
                "would be another class; write each class in one way"
            )


def lookalikes(labels: Iterable[str]) -> list[list[str]]:
    """Return the groups of labels that differ only in case, in spaces or in characters that nobody sees."""

    def appearance(label: str) -> str:
        folded = unicodedata.normalize("NFKC", label).casefold()
        return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf")

    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(appearance(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def note_lost_classes(before: Iterable[str], after: Iterable[str], audit: Audit) -> None:
    """Note the labels of ``before`` that are none of ``after``: few rows may be a whole class."""
    lost = sorted(set(before) - set(after))
    if lost:
        audit.notes.append(f"classes of which every row was left out: {listed(lost)}")


def sort_classes(labels: Iterable[str]) -> list[str]:
    """Return the different labels in the order of the alphabet, or of numbers if all of them are numbers."""
    classes = sorted(set(labels))
    numbers = [read_number(label) for label in classes]
    if any(number is None or not math.isfinite(number) for number in numbers):
        return classes
    return [label for _, label in sorted(zip(numbers, classes, strict=True))]
