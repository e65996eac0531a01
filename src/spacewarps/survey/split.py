"""Splitting sources, stratified by class, so that no source stands on two sides."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from spacewarps.errors import SurveyError


def class_of_sources(sources: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Return the class of each source: that of most of its rows, the first in the alphabet where several have most."""
    counts: dict[str, Counter[str]] = {}
    for source, label in zip(sources, labels, strict=True):
        counts.setdefault(source, Counter())[label] += 1
    return {source: min(count, key=lambda label: (-count[label], label)) for source, count in counts.items()}


def take_fraction(classes: Mapping[str, str], fraction: float, seed: int) -> set[str]:
    """Return the sources that make up ``fraction`` of each class, at least one of each.

    A smaller fraction of the same survey is part of every larger one.
    """
    taken: set[str] = set()
    for members in _by_class(classes, seed, "fraction").values():
        taken.update(members[: max(1, round(fraction * len(members)))])
    return taken


def split_sources(classes: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return the split of each source.

    Within each class the sources are put in an order that depends on their names and ``seed`` alone, not on the order
    of the catalogue, and cut into consecutive parts whose sizes follow ``shares`` (largest remainders), at least one
    source each.

    Args:
        classes: the class of each source.
        shares: the share of each split, in the order in which they are filled; together 1.
        seed: the seed of the run.

    Raises:
        SurveyError: a class has fewer sources than there are splits.
    """
    split_of: dict[str, str] = {}
    for label, members in _by_class(classes, seed, "split").items():
        if len(members) < len(shares):
            raise SurveyError(
                f"class {label!r} has {len(members)} source(s), too few for the splits {', '.join(shares)} "
                "(rows at one position or with equal pixels are one source); "
                "add sources, raise `fraction` or leave the class out"
            )
        start = 0
        for split, size in zip(shares, _sizes(len(members), list(shares.values())), strict=True):
            split_of.update(dict.fromkeys(members[start : start + size], split))
            start += size
    return split_of


def fold_of_sources(classes: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Return the fold, from 0, that each source is dealt to.

    Within each class the sources are put in an order that depends on their names and ``seed`` alone, and dealt in turn,
    so that the folds have as many of each class, and as many in all, to within one.

    Args:
        classes: the class of each source.
        folds: how many there are.
        seed: the seed of the run.

    Raises:
        SurveyError: a class has fewer sources than there are folds.
    """
    dealt: dict[str, int] = {}
    for label, members in _by_class(classes, seed, "folds").items():
        if len(members) < folds:
            raise SurveyError(
                f"class {label!r:.80} has {len(members)} source(s) to learn from, too few for {folds} folds; "
                "have fewer folds, add sources or leave the class out"
            )
        # The next class goes on where this one ended, or the first folds would have one more of every class.
        dealt.update({source: number % folds for number, source in enumerate(members, start=len(dealt))})
    return dealt


def _by_class(classes: Mapping[str, str], seed: int, purpose: str) -> dict[str, list[str]]:
    """Return the sources of each class, in the order that the keyed hash of their names gives."""

    def order(source: str) -> bytes:
        return hashlib.blake2b(source.encode(), key=f"{purpose}:{seed}".encode(), digest_size=16).digest()

    members: dict[str, list[str]] = {}
    for source in sorted(classes, key=order):
        members.setdefault(classes[source], []).append(source)
    return {label: members[label] for label in sorted(members)}


def _sizes(total: int, shares: list[float]) -> list[int]:
    """Return whole sizes nearest to ``shares`` of ``total`` that add up to it, none of them 0."""
    sizes = [max(1, int(total * share)) for share in shares]
    while sum(sizes) != total:
        owed = [total * share - size for share, size in zip(shares, sizes, strict=True)]
        if sum(sizes) < total:
            sizes[owed.index(max(owed))] += 1
        else:
            largest = max(range(len(sizes)), key=lambda i: (sizes[i] > 1, -owed[i]))
            sizes[largest] -= 1
    return sizes
