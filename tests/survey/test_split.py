from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacewarps.errors import SurveyError
from spacewarps.survey.split import class_of_sources, fold_of_sources, split_sources, take_fraction
from tests.complaints import complaint

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def sources_of(sizes: dict[str, int]) -> dict[str, str]:
    return {f"{label}{number}": label for label, size in sizes.items() for number in range(size)}


SIZES = st.dictionaries(st.sampled_from(["GALAXY", "QSO", "STAR"]), st.integers(3, 60), min_size=1)
ANY_SHARES = st.tuples(st.integers(1, 98), st.integers(1, 98), st.integers(1, 98)).map(
    lambda parts: dict(zip(SHARES, [part / sum(parts) for part in parts], strict=True))
)


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, shares=ANY_SHARES, seed=st.integers(-5, 2**63))
def test_every_class_is_cut_within_one_source_of_the_shares_and_no_split_is_empty(
    sizes: dict[str, int], shares: dict[str, float], seed: int
) -> None:
    classes = sources_of(sizes)
    split_of = split_sources(classes, shares, seed)
    assert split_of.keys() == classes.keys()
    for label, size in sizes.items():
        counts = Counter(split_of[source] for source in classes if classes[source] == label)
        assert sum(counts.values()) == size
        # A split that would get less than one source takes one from the others.
        lifted = sum(share * size < 1 for share in shares.values())
        for split, share in shares.items():
            assert counts[split] >= 1
            assert abs(counts[split] - share * size) < 1 + lifted


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 100), order=st.randoms(use_true_random=False))
def test_the_split_depends_on_names_and_seed_and_not_on_the_order(
    sizes: dict[str, int], seed: int, order: Random
) -> None:
    classes = sources_of(sizes)
    shuffled = list(classes.items())
    order.shuffle(shuffled)
    assert split_sources(dict(shuffled), SHARES, seed) == split_sources(classes, SHARES, seed)


def test_another_seed_gives_another_split() -> None:
    classes = sources_of({"GALAXY": 50, "STAR": 50})
    assert split_sources(classes, SHARES, 1) != split_sources(classes, SHARES, 2)


def test_a_fraction_is_no_part_of_one_split() -> None:
    classes = sources_of({"STAR": 100})
    split_of = split_sources(classes, SHARES, 1)
    counts = Counter(split_of[source] for source in take_fraction(classes, 0.5, 1))
    assert all(counts[split] == pytest.approx(50 * share, abs=9) for split, share in SHARES.items())


@pytest.mark.parametrize("size", [1, 2])
def test_a_class_with_fewer_sources_than_splits_is_refused(size: int) -> None:
    with pytest.raises(SurveyError, match=f"class 'QSO' has {size} source.*too few.*train, validation, test"):
        split_sources(sources_of({"STAR": 20, "QSO": size}), SHARES, 1)


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, fractions=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)), seed=st.integers(0, 100))
def test_a_smaller_fraction_is_part_of_a_larger_one(
    sizes: dict[str, int], fractions: tuple[float, float], seed: int
) -> None:
    classes = sources_of(sizes)
    small, large = (take_fraction(classes, fraction, seed) for fraction in sorted(fractions))
    assert small <= large
    for label, size in sizes.items():
        taken = sum(classes[source] == label for source in small)
        assert taken >= 1
        assert taken == 1 or abs(taken - min(fractions) * size) <= 0.5


def test_the_whole_fraction_takes_every_source() -> None:
    classes = sources_of({"STAR": 7, "QSO": 3})
    assert take_fraction(classes, 1.0, 1) == set(classes)


def test_a_source_has_the_class_of_most_of_its_rows_and_of_a_tie_the_first() -> None:
    sources = ["a", "a", "a", "b", "b", "c"]
    labels = ["STAR", "QSO", "STAR", "STAR", "GALAXY", "QSO"]
    expected = {"a": "STAR", "b": "GALAXY", "c": "QSO"}
    assert class_of_sources(sources, labels) == expected
    assert class_of_sources(sources[::-1], labels[::-1]) == expected


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=5),
    folds=st.integers(1, 3),
    seed=st.integers(0, 2**63 - 1),
)
def test_folds_are_alike_in_their_classes_and_in_size(counts: list[int], folds: int, seed: int) -> None:
    classes = {f"{label}-{n}": str(label) for label, count in enumerate(counts) for n in range(count)}
    dealt = fold_of_sources(classes, folds, seed)
    assert dealt.keys() == classes.keys()
    for members in (list(classes), *([s for s in classes if classes[s] == str(c)] for c in range(len(counts)))):
        sizes = [sum(dealt[source] == fold for source in members) for fold in range(folds)]
        assert max(sizes) - min(sizes) <= 1
    assert fold_of_sources(dict(reversed(classes.items())), folds, seed) == dealt


def test_a_class_with_fewer_sources_than_folds_is_named() -> None:
    words = complaint(SurveyError, fold_of_sources, {"a": "GALAXY", "b": "GALAXY", "c": "STAR"}, 2, 0)
    assert "class 'STAR' has 1 source(s) to learn from, too few for 2 folds; have fewer folds" in words
