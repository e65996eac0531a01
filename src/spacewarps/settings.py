"""Settings that check themselves: frozen dataclasses, which a range or a default stands in once.

``params.yaml`` and programs in Python make the same objects, so both meet the same rules.
"""

import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, fields, is_dataclass, replace
from datetime import date
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform, get_type_hints

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from spacewarps.errors import ParamsError

_T = TypeVar("_T")


# A list for each step, or for each name; a list that is deeper, or holds itself, is refused as it is.
_DEEPEST = 2


def _as_plain(value: Any, depth: int = _DEEPEST) -> Any:
    """Return NumPy's numbers and arrays as Python's, whose seeds and texts are the same."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if depth and type(value) in (list, tuple):
        return type(value)(_as_plain(each, depth - 1) for each in value)
    if depth and type(value) is dict:
        return {name: _as_plain(each, depth - 1) for name, each in value.items()}
    return value


def _as_tuple(value: Any) -> Any:
    """Return a list as the tuple that frozen settings hold."""
    return tuple(value) if isinstance(value, list) else value


Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Threads = Annotated[int, Field(ge=1, le=1024)]
# Beside the type of a field that holds several values, for which a list will do: YAML has no tuples.
Several = BeforeValidator(_as_tuple)


class OneOf:
    """Beside the type ``str``: one of the names that a registry holds, those registered later included."""

    def __init__(self, registry: Collection[str]) -> None:
        self._registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, name: Any) -> Any:
        if isinstance(name, str) and name in self._registry:
            return name
        *others, last = [repr(known) for known in self._registry]
        expected = f"{', '.join(others)} or {last}" if others else last
        raise PydanticCustomError("one_of", "Input should be {expected}", {"expected": expected})


@plain_dataclass(frozen=True)
class Fault:
    """What is wrong with one setting.

    Args:
        argument: the path to it, with dots; empty where several settings do not go together.
        text: what was found there, and what it should be; as it follows the argument.
        kind: there is no such setting, its value is wrong, or it is missing.
    """

    argument: str
    text: str
    kind: Literal["unknown", "wrong", "missing"] = "wrong"

    def below(self, section: str) -> "Fault":
        """Return the same fault, seen from what has these settings as ``section``."""
        return replace(self, argument=".".join(filter(None, [section, self.argument])))

    def __str__(self) -> str:
        return f"{self.argument:.200}{self.text}" if self.argument else self.text.removeprefix(": ")


class SettingsError(ParamsError):
    """Settings are unknown, mistyped or out of range.

    Args:
        faults: at least one; the message is the first.
    """

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        others = len(faults) - 1
        super().__init__(f"{faults[0]} (and {others} more)" if others else str(faults[0]))

    def __reduce__(self) -> tuple[Any, ...]:
        return SettingsError, (self.faults,)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def settings(cls: type[_T]) -> type[_T]:
    """Make ``cls`` a frozen dataclass that checks the types and ranges of its fields.

    No type is converted in silence. What it checks beside that, in ``__post_init__``, it refuses with a ``ValueError``.

    Raises (when it is made):
        SettingsError: naming the first argument at fault, what was found and what is allowed.
    """
    made = dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))(cls)
    check: Callable[..., None] = made.__init__

    names = [one.name for one in fields(made)]

    @wraps(check)
    def init(self: _T, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(names):
            few = f"{cls.__name__} has fewer settings ({len(names)}) than the {len(args)} values that it was given"
            raise SettingsError([Fault("", few)])
        # By name, as faults are told by name.
        by_position = dict(zip(names, args, strict=False))
        if twice := [name for name in by_position if name in kwargs]:
            raise SettingsError(
                [Fault(name, " is given twice, by position and by name; give it once") for name in twice]
            )
        try:
            check(self, **{name: _as_plain(value) for name, value in (by_position | kwargs).items()})
        except ValidationError as error:
            raise SettingsError(_faults(error)) from None

    made.__init__ = init  # type: ignore[method-assign, assignment]
    return cast(type[_T], made)


def with_fields_of(*others: type[Any]) -> Callable[[type[_T]], type[_T]]:
    """Let a class have the fields of other settings too, before it becomes settings itself."""

    def extended(cls: type[_T]) -> type[_T]:
        for other in others:
            hints = get_type_hints(other, include_extras=True)
            for one in fields(other):
                cls.__annotations__.setdefault(one.name, hints[one.name])
                if not hasattr(cls, one.name):
                    setattr(cls, one.name, _default_of(other, one.name))
        return cls

    return extended


def part_of(kind: type[_T], whole: object) -> _T:
    """Return the settings of ``kind`` with the values that ``whole``, which has fields of the same names, holds."""
    return kind(**{one.name: getattr(whole, one.name) for one in fields(kind) if hasattr(whole, one.name)})  # type: ignore[arg-type]


def as_values(made: Any) -> Any:
    """Return settings as ``params.yaml`` holds them: sections, lists and plain values."""
    if is_dataclass(made) and not isinstance(made, type):
        return {one.name: as_values(getattr(made, one.name)) for one in fields(made)}
    if isinstance(made, Mapping):
        return {name: as_values(value) for name, value in made.items()}
    return [as_values(value) for value in made] if isinstance(made, list | tuple) else made


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested sections as one level, with dots in the names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _default_of(kind: type[Any], name: str) -> Any:
    default = getattr(kind(), name)
    return field(default_factory=lambda: default) if is_dataclass(default) else default


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2


def shown(value: Any) -> str:
    """Return ``value`` for a message: what is long or nested is cut before it becomes text."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        # Python gives a number of thousands of digits no text.
        return "a number of too many digits"


def _faults(error: ValidationError) -> list[Fault]:
    found = error.errors(include_url=False)
    # A list of which all that is wrong was taken out is too short as well.
    places = [fault["loc"] for fault in found]
    return [
        _fault(fault)
        for fault, place in zip(found, places, strict=True)
        if not any(len(other) > len(place) and other[: len(place)] == place for other in places)
    ]


def _fault(fault: Mapping[str, Any]) -> Fault:
    # The tag of a union's member is no part of what the user wrote.
    place = ".".join(str(part) for part in fault["loc"] if not (isinstance(part, str) and part.startswith("<")))
    value = fault.get("input")
    if fault["type"] == "unexpected_keyword_argument":
        return Fault(place, " is not one of the settings", "unknown")
    if fault["type"] == "value_error":
        return Fault(place, f": {fault['msg'].removeprefix('Value error, '):.300}")
    if fault["type"] == "dataclass_exact_type":
        return Fault(place, f" is {shown(value)}, but it should be a {fault['ctx']['class_name']}")
    text = f" is {shown(value)}, but {_lower(fault['msg']).replace('valid tuple', 'valid list')}"
    if fault["type"] == "string_type" and isinstance(value, int | float | date):
        text += "; put it in quotes"
    return Fault(place, text)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
