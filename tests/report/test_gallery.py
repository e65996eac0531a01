import numpy as np

from spacewarps.report.gallery import galleries

LABELS = np.array([0, 0, 1, 1, 0, 1, 0])
# Of samples 0 to 3 the answer is right, of 4 and 5 wrong; 6 is the least sure.
OF_CLASS_0 = np.array([0.9, 0.99, 0.2, 0.05, 0.1, 0.7, 0.52])
PROBABILITIES = np.stack([OF_CLASS_0, 1 - OF_CLASS_0], axis=1)


def test_each_gallery_shows_what_its_name_says() -> None:
    right, wrong, unsure = galleries(PROBABILITIES, LABELS, np.arange(7))
    # Each class in turn, the surest of it first.
    assert right.samples == [1, 3, 0, 2, 6]
    assert wrong.samples == [4, 5]
    assert unsure.samples[0] == 6
    assert not set(unsure.samples) & set(wrong.samples)


def test_a_source_is_shown_once_in_each_gallery() -> None:
    right, wrong, _ = galleries(PROBABILITIES, LABELS, np.array([0, 0, 1, 1, 2, 2, 3]))
    assert right.samples == [1, 3, 6]
    assert wrong.samples == [4]


def test_their_number_does_not_grow_with_the_survey() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(40), size=5000)
    found = galleries(probabilities, rng.integers(40, size=5000), np.arange(5000))
    assert [len(gallery.samples) for gallery in found] == [12, 12, 12]


def test_a_network_that_is_never_wrong_has_an_empty_gallery() -> None:
    _, wrong, unsure = galleries(np.eye(2), np.array([0, 1]), np.arange(2))
    assert wrong.samples == []
    assert unsure.samples == [0, 1]
