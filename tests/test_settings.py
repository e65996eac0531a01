import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, field, replace
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from spacewarps.settings import (
    Channels,
    OneOf,
    SettingsError,
    Several,
    as_values,
    flatten,
    part_of,
    settings,
    with_fields_of,
)

NAMES = {"greedy": 1, "beam": 2}


@settings
class Inner:
    scale: Annotated[float, Field(gt=0)] = 1.0


@settings
class Outer:
    name: Annotated[str, OneOf(NAMES)] = "greedy"
    ks: Annotated[tuple[Channels, ...], Several] = (8, 16)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if len(self.ks) > 3:
            raise ValueError("ks must be three at most")


@settings
class Named:
    codes: Mapping[str, Annotated[tuple[float, ...], Several]] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ks": (8, 0)}, "ks.1 is 0, but input should be greater than or equal to 1"),
        ({"ks": (8, "x")}, "ks.1 is 'x', but input should be a valid integer"),
        ({"ks": (8, True)}, "ks.1 is True, but input should be a valid integer"),
        ({"ks": 8}, "ks is 8, but input should be a valid list"),
        ({"ks": (1, 2, 3, 4)}, "ks must be three at most"),
        ({"name": "random"}, "name is 'random', but input should be 'greedy' or 'beam'"),
        ({"name": 1, "ks": ()}, "name is 1, but input should be 'greedy' or 'beam'"),
        ({"name": 1, "ks": (0,)}, "name is 1, but input should be 'greedy' or 'beam' (and 1 more)"),
        ({"inner": 3}, "inner is 3, but it should be a Inner"),
        ({"nmae": "beam"}, "nmae is not one of the settings"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Outer(**arguments)
    assert str(caught.value) == message


def test_an_argument_by_position_is_told_by_its_name() -> None:
    with pytest.raises(SettingsError, match=r"^scale is -1\.0, but input should be greater than 0$"):
        Inner(-1.0)


def test_a_setting_given_twice_is_refused_and_not_chosen_between() -> None:
    with pytest.raises(SettingsError, match=r"^name is given twice, by position and by name; give it once$"):
        Outer("greedy", (8,), name="beam")  # type: ignore[misc]


def test_values_more_than_there_are_settings_are_counted_and_none_is_blamed() -> None:
    with pytest.raises(SettingsError, match=r"^Inner has fewer settings \(1\) than the 2 values that it was given$"):
        Inner(1.0, 2.0)  # type: ignore[call-arg]


def test_a_list_that_is_deep_or_holds_itself_is_refused_in_one_line() -> None:
    itself: list[Any] = [8]
    itself[:] = [itself, itself]
    deep: list[Any] = [8]
    for _ in range(3000):
        deep = [deep]
    for ks in (itself, deep, {"ks": itself}):
        with pytest.raises(SettingsError, match=r"^ks.* is .*, but input should be a valid (integer|list)"):
            Outer(ks=ks)  # type: ignore[arg-type]


def test_a_fault_carries_its_argument_and_travels_between_processes() -> None:
    with pytest.raises(SettingsError) as caught:
        Inner(scale=0.0)
    assert [fault.argument for fault in caught.value.faults] == ["scale"]
    assert str(caught.value.faults[0].below("search.inner")).startswith("search.inner.scale is 0.0, but")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.faults) == (str(caught.value), caught.value.faults)


def test_settings_do_not_change_and_a_replacement_is_checked() -> None:
    made = Outer()
    with pytest.raises(FrozenInstanceError):
        made.name = "beam"  # type: ignore[misc]
    assert replace(made, ks=(4,)).ks == (4,)
    with pytest.raises(SettingsError):
        replace(made, ks=(0,))
    assert pickle.loads(pickle.dumps(made)) == made


def test_lists_and_numbers_of_numpy_do() -> None:
    made = Outer(ks=np.array([4, 8]))  # type: ignore[arg-type]
    assert made == Outer(ks=[4, 8])  # type: ignore[arg-type]
    assert [type(k) for k in made.ks] == [int, int]
    mixed = Outer(ks=(np.int64(4), np.uint8(8)))  # type: ignore[arg-type]
    assert [type(k) for k in mixed.ks] == [int, int]
    scale = Inner(scale=np.float32(0.5)).scale  # type: ignore[arg-type]
    assert (scale, type(scale)) == (0.5, float)
    with pytest.raises(SettingsError, match="should be greater than 0"):
        Inner(np.float64(-1.0))
    by_name = Named(codes={"z": np.array([-99.0, 1]), "w": [np.float32(0.5)], "v": (np.float64(2),)})  # type: ignore[dict-item]
    assert by_name == Named(codes={"z": (-99.0, 1.0), "w": (0.5,), "v": (2.0,)})
    assert {type(code) for codes in by_name.codes.values() for code in codes} == {float}


def test_a_name_that_is_registered_later_is_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NAMES, "random", 3)
    assert Outer(name="random").name == "random"


def test_values_are_what_a_file_holds() -> None:
    assert as_values(Outer()) == {"name": "greedy", "ks": [8, 16], "inner": {"scale": 1.0}}


def test_flatten_names_nested_values_by_their_path() -> None:
    assert flatten({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}) == {"a": 1, "b.c": [1, 2], "b.d.e": None}


def test_settings_take_of_others_what_they_know() -> None:
    assert part_of(Inner, SimpleNamespace(scale=2.0, other=1)) == Inner(2.0)
    assert part_of(Inner, object()) == Inner()


def test_a_class_can_have_the_fields_of_others_with_their_rules() -> None:
    @settings
    @with_fields_of(Inner, Outer)
    class Both:
        own: int = 1

    made: Any = Both()
    assert (made.own, made.scale, made.ks, made.inner) == (1, 1.0, (8, 16), Inner())
    with pytest.raises(SettingsError, match=r"^scale is 0\.0"):
        Both(scale=0.0)  # type: ignore[call-arg]
