import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from spacewarps.tracking.names import acceptable_name

# What escapes are made of, so that collisions are likely where they are possible.
TEXT = st.text(st.sampled_from("_x0AF25*/.:a é"), min_size=1, max_size=12) | st.text(min_size=1, max_size=300)


@pytest.mark.parametrize(
    "name", ["test.recall.GALAXY", "test.recall.Σφαίρα", "search.k_candidates", "M5: giant", "a-b"]
)
def test_a_name_that_is_accepted_stays_as_it_is(name: str) -> None:
    assert acceptable_name(name) == name


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("RR*", "RR_x002A_"),
        ("test.recall.=cmd", "test.recall._x003D_cmd"),
        ("test.recall.../../x", "test.recall..._x002F_.._x002F_x"),
        ("../../x", "_x002E_._x002F_.._x002F_x"),
        ("/absolute", "_x002F_absolute"),
        ("RR_x002A_", "RR_x005F_x002A_"),
        ("two\nlines", "two_x000A_lines"),
    ],
)
def test_what_mlflow_refuses_is_escaped(name: str, accepted: str) -> None:
    assert acceptable_name(name) == accepted


@given(TEXT)
def test_every_name_is_accepted_by_mlflow_and_fits_a_file_name(name: str) -> None:
    accepted = acceptable_name(name)
    _validate_metric_name(accepted)  # type: ignore[no-untyped-call]
    assert 0 < len(accepted.encode()) <= 250


@given(TEXT, TEXT)
def test_different_names_stay_different(first: str, second: str) -> None:
    assert (acceptable_name(first) == acceptable_name(second)) == (first == second)


def test_long_names_that_differ_only_at_their_end_stay_different() -> None:
    names = {acceptable_name("*" * 300 + end) for end in ("a", "b", "")}
    assert len(names) == 3
    assert {len(name) for name in names} <= set(range(200, 251))
