from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacewarps.yaml_params import NotYamlError, edit_yaml, read_yaml

PARAMS = (Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8")
SECTION = """data:
  columns: {id: id, label: class, ra: ra, dec: dec} # ra and dec
  features:                    # a column
  - z
  missing_codes: {}            # numbers
  other: 1                     # of it
"""
NAMES = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=12)


def test_a_file_that_is_edited_in_nothing_has_the_same_bytes() -> None:
    assert edit_yaml(PARAMS, "data", {}, {}) == PARAMS
    assert edit_yaml(PARAMS, "data", {"features": ["z", "z_err"], "stamp_size": None}, {}) == PARAMS


def test_values_change_and_comments_stay() -> None:
    text = edit_yaml(PARAMS, "data", {"stamp_size": 64, "features": [], "stamp_bands": ["g", "r"]}, {"features": "why"})
    assert "  stamp_size: 64               # pixels a side" in text
    assert "  stamp_bands: [g, r]" in text
    assert "  # why\n  features: " in text
    assert len(text.splitlines()) == len(PARAMS.splitlines()) - 1
    assert text.count("#") == PARAMS.count("#") + 1


@given(
    features=st.lists(NAMES, max_size=4, unique=True), code=st.floats(allow_nan=False, allow_infinity=False), id_=NAMES
)
def test_any_names_are_read_back(features: list[str], code: float, id_: str) -> None:
    values: dict[str, Any] = {
        "features": features,
        "missing_codes": {name: [code] for name in features},
        "columns": {"id": id_, "label": "null", "ra": None, "dec": None},
    }
    edited = edit_yaml(SECTION, "data", values, {})
    assert read_yaml(edited)["data"] == values | {"other": 1}
    assert [line for line in edited.splitlines() if "of it" in line] == [SECTION.splitlines()[-1]]


@pytest.mark.parametrize("text", ["", "[1]", "data: 1", "data: {features: []}"])
def test_a_text_without_the_section_or_the_name_is_refused(text: str) -> None:
    with pytest.raises(NotYamlError, match=r"there is no data\.stamp_size"):
        edit_yaml(text, "data", {"stamp_size": 1}, {})
