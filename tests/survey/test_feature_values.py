from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.feature_values import read_feature


def read(texts: Sequence[str], **options: Any) -> tuple[list[float], Audit]:
    audit = Audit()
    settings: dict[str, Any] = {"is_error": False, "codes": (), "max_bad_fraction": 0.25} | options
    values = read_feature("z", texts, [f"c.csv:{row + 2}" for row in range(len(texts))], audit=audit, **settings)
    return values.tolist(), audit


@pytest.mark.parametrize("text", ["0,5", "1.2D-04", "0.1+-0.02", "True", "<0.1", "0.5 mag", "1,234.5", "?", "1.#QNAN"])
def test_more_than_the_limit_of_what_is_no_number_is_refused_with_an_example(text: str) -> None:
    values, audit = read(["1", "2", "3", text])
    assert values[:3] == [1, 2, 3]
    assert np.isnan(values[3])
    assert audit.notes == [
        f"feature 'z': 1 of 4 values are not numbers and count as missing, such as '{text}' in c.csv:5"
    ]
    with pytest.raises(SurveyError, match="2 of 4 values of the feature 'z' are not numbers, such as ") as caught:
        read(["1", text, "", text])
    assert f"{text!r} in c.csv:3" in str(caught.value)


def test_a_feature_without_a_number_is_refused_even_if_every_fault_is_allowed() -> None:
    with pytest.raises(SurveyError, match="2 of 2 values"):
        read(["high", "low"], max_bad_fraction=1.0)


def test_what_says_that_there_is_no_value_is_missing_and_no_fault() -> None:
    values, audit = read(["1", "", "NaN", "null", "None", "NA", "n/a", "--", "inf", "-nan", "\N{MINUS SIGN}1.5"])
    assert values[0] == 1
    assert values[10] == -1.5
    assert np.isnan([values[row] for row in (1, 2, 3, 4, 5, 6, 7, 9)]).all()
    assert not audit.notes
    assert audit.details["features"] == {"z": {"missing": 9, "not_a_number": 0}}


def test_a_feature_that_has_no_value_at_all_is_noted() -> None:
    assert read(["", "nan", "inf"])[1].notes == ["feature 'z': no row has a value"]


def test_codes_become_missing_and_are_counted() -> None:
    values, audit = read(["-9999", "-9999.0", "99", "0.5", "-999"], codes=[-9999, 99])
    assert np.isnan(values).tolist() == [True, True, True, False, False]
    assert audit.details["features"] == {"z": {"missing": 3, "not_a_number": 0, "codes": 3}}


@pytest.mark.parametrize("code", ["-9999", "-999", "-99", "99", "999.0", "9999", "-99.99", "1e20", "-1e30"])
def test_a_repeated_extreme_that_looks_like_a_code_is_noted_with_the_param(code: str) -> None:
    (note,) = read([code, "0.1", "0.5", code, "0.9"])[1].notes
    assert "stands in 2 of 5 rows" in note
    assert f"data.missing_codes (z: [{float(code):g}])" in note


def test_several_codes_are_noted_one_by_one() -> None:
    notes = read(["-9999", "-9999", "99", "99", "-99", "-99", "0.5", "0.6"])[1].notes
    assert [note.split()[2] for note in notes] == ["-9999", "-99", "99"]


@pytest.mark.parametrize(
    ("texts", "is_error"),
    [
        (["-9999", "0.1", "0.5"], False),
        (["99", "99", "98", "50", "3"], False),
        (["-99", "-99", "-98", "120", "3"], False),
        (["0", "0", "1", "2"], False),
        (["-999", "-999", "0.1"], True),
    ],
    ids=["once", "in reach of the others", "of a signed quantity", "zero", "an error's own code"],
)
def test_what_may_well_be_a_value_is_not_called_a_code(texts: list[str], is_error: bool) -> None:
    assert not read(texts, is_error=is_error)[1].notes
