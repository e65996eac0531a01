import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.labels import lookalikes, refuse_one_number_in_two_spellings, sort_classes


@pytest.mark.parametrize(("one", "other"), [("0", "0.0"), ("01", "1"), ("1", "1e0"), ("-0", "0"), ("+2", "2")])
def test_one_number_in_two_spellings_is_refused_with_both_places(one: str, other: str) -> None:
    with pytest.raises(SurveyError) as caught:
        refuse_one_number_in_two_spellings({other: "b.csv:7", "STAR": "a.csv:2", one: "a.csv:3"})
    for word in (repr(one), repr(other), "a.csv:3", "b.csv:7"):
        assert word in str(caught.value)


def test_numbers_words_and_what_looks_like_infinity_may_be_classes_side_by_side() -> None:
    refuse_one_number_in_two_spellings(dict.fromkeys(["1", "2", "1_0", "10", "inf", "infinity", "Sa", "1a"], "a.csv:2"))


def test_labels_that_differ_in_what_nobody_sees_look_alike() -> None:
    labels = ["GALAXY", "Galaxy", "QSO", "Q SO", "STAR", "STAR\u200b", "RR*", "RR"]
    assert lookalikes(labels) == [["GALAXY", "Galaxy"], ["Q SO", "QSO"], ["STAR", "STAR\u200b"]]


def test_classes_stand_in_the_order_of_numbers_if_all_are_numbers() -> None:
    assert sort_classes(["10", "2", "0", "1", "2"]) == ["0", "1", "2", "10"]
    assert sort_classes(["0.5", "-1", "10"]) == ["-1", "0.5", "10"]
    assert sort_classes(["10", "2", "a"]) == ["10", "2", "a"]
