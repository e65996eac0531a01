"""Which candidates of a step can be evaluated side by side, and which wait for a sibling to be widened from."""

from collections.abc import Sequence

from spacewarps.search.history import Candidate

Family = tuple[object, ...]


def family_of(candidate: Candidate) -> Family:
    """Return what a candidate shares with those whose block it can be widened from: trunk, kind and kernel size."""
    return candidate.trunk, candidate.block.kind, candidate.block.kernel_size


def one_of_each_family(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return waves that follow each other, each with at most one candidate of a family, in ascending ``k``."""
    families: dict[Family, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda each: each.block.k):
        families.setdefault(family_of(candidate), []).append(candidate)
    longest = max(map(len, families.values()))
    return [[family[wave] for family in families.values() if wave < len(family)] for wave in range(longest)]
