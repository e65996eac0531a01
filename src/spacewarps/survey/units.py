"""Units that a catalogue names: positions become degrees, those of features are told."""

import math
import re
from collections.abc import Sequence

from astropy import units

from spacewarps.errors import SurveyError
from spacewarps.survey.audit import Audit
from spacewarps.survey.columns import listed, shown
from spacewarps.survey.delimited import Table
from spacewarps.survey.numbers import read_number

# By name, since astropy computes whatever a unit asks for, to the last digit.
_ANGLES = {
    "deg": units.deg,
    "degree": units.deg,
    "degrees": units.deg,
    "decimal degrees": units.deg,
    "rad": units.rad,
    "radian": units.rad,
    "radians": units.rad,
    "hourangle": units.hourangle,
    "arcmin": units.arcmin,
    "arcsec": units.arcsec,
    "mas": units.mas,
}
_LONGEST = 80
_FRAME = re.compile(r"\s*\(?(j2000(\.0)?|icrs|fk5)\)?")
_IN_WORDS = "deg, rad, hourangle, arcmin, arcsec or mas"


def read_units(tables: Sequence[Table], positions: Sequence[str], features: Sequence[str], audit: Audit) -> None:
    """Turn the columns ``positions`` into degrees, and tell ``audit`` the units of ``features``; where there are some.

    Raises:
        SurveyError: the unit of a position is no angle that is known, or a feature has several units.
    """
    for table in tables:
        for name in positions:
            if name in table.units:
                _in_degrees(table, name, audit)
    found: dict[str, str] = {}
    for name in features:
        holders = {table.units[name]: table.name for table in reversed(tables) if name in table.units}
        if len(holders) > 1:
            raise SurveyError(
                f"{listed(reversed(holders.values()))}: the feature {shown(name)} has several units, "
                f"{listed(reversed(holders))}; write it in one"
            )
        if holders:
            [unit] = holders
            found[name] = unit[:_LONGEST]
    if found:
        audit.details["units"] = found


def _in_degrees(table: Table, name: str, audit: Audit) -> None:
    unit = table.units[name]
    plain = _FRAME.sub("", unit.strip(" '\"[]").lower())
    if plain not in _ANGLES:
        raise SurveyError(
            f"{table.name}: the column {shown(name)} for positions has the unit {shown(unit)}, which is none of "
            f"{_IN_WORDS}; write it in degrees"
        )
    factor = _ANGLES[plain].to(units.deg)
    if factor == 1:
        return
    place = table.header.index(name)
    for row in table.rows:
        number = read_number(row[place].strip())
        if number is not None and math.isfinite(number):
            row[place] = repr(number * factor)
    audit.notes.append(f"positions in {plain}, which were turned into degrees: {shown(name)} in {shown(table.name)}")
