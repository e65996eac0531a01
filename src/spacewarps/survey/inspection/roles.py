"""Which column is the id, the label, a position or a feature; where two could be, nobody but the user can say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from spacewarps.errors import SurveyError
from spacewarps.survey.columns import Columns, habitual, listed, nearest, positions_among, shown
from spacewarps.survey.inspection.tables import Column, Joined

_TWICE = "in several tables under one name"
_UNPRINTABLE = "a name that cannot be printed"
_OWN = "a name that the project's own table has"
#: Why columns of numbers cannot be read at all.
UNREADABLE = frozenset({_TWICE, _UNPRINTABLE, _OWN})
# What the sample table calls its own columns, so that no feature can have such a name.
_RESERVED = frozenset({"id", "source", "split", "label", "ra", "dec"})
# The words in the name of a label, the most telling first.
_LABEL_WORDS = ("class", "label", "morphology", "category", "type", "target")
# As catalogues name the error of the column x: e_x, x_error, xErr, sigma_x. That of x_err is a feature beside x.
_ERROR = re.compile(r"(e|err|error|sig|sigma|std|unc)[_ .-].+|.+[_ .-]?(err|error|sigma|unc|ivar)", re.IGNORECASE)
# What says where and when somebody looked, and through what, and nothing of the source.
_OBSERVATION = re.compile(
    r"(.*[_ .-])?(extinction|ebv|e_b-?v|e\(b-v\)|airmass|seeing|psf_?fwhm|exptime|mjd|jd|bjd|hjd|date|epoch|obsdate"
    r"|plate|plateid|fiber|fiberid|run|rerun|camcol|field|fieldid|ccd|chip|tile|healpix|htmid|night|flag|flags|quality)"
    r"([_ .-].*)?|(x|y)(pix|_?image|_?win|_?pos)?",
    re.IGNORECASE,
)
_SKY = re.compile(r"_?(g|sg|e|gal|ecl)?_?(lon|lat)(_?deg)?|cx|cy|cz", re.IGNORECASE)
_NUMBER = re.compile(r"(?i:unnamed: ?\d+|index|row|rownum|recno|level_\d+|.*[_ .-]id)|.*I[dD]")
# Of whole numbers, so few values are a code and no measurement.
_FEW = 10
_TOLD = 4


class NoIdError(SurveyError):
    """No column names the stamps.

    Args:
        message: says so.
        without_id: the columns of the catalogue as far as they are known: what is most likely the id, by its name.
    """

    def __init__(self, message: str, without_id: Columns) -> None:
        super().__init__(message)
        self.without_id = without_id


@dataclass(frozen=True)
class Wishes:
    """What the user has said; None where the catalogue is to show it."""

    id: str | None = None
    label: str | None = None
    features: tuple[str, ...] | None = None


@dataclass
class Roles:
    """What each column is taken for.

    Args:
        columns: id, label and position.
        features: those that measure the source, in the order of the catalogue, errors behind what they are of.
        left_out: the reason why other columns of numbers are none, and their names.
        other_labels: columns that could be the label as well.
        has_bands: whether stamps are named by an id and a band.
    """

    columns: Columns
    features: list[str]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    other_labels: list[Column] = field(default_factory=list)
    has_bands: bool = False


def choose_roles(tables: Sequence[Joined], wishes: Wishes, stamp: str) -> Roles:
    """Say what each column is.

    Args:
        tables: what was found.
        wishes: what the user has said.
        stamp: the name of a stamp, for the message if no column holds any.

    Raises:
        SurveyError: it cannot be known, or the user has named what is not there.
    """
    merged = _merged(tables)
    id_column = _id_column(tables, merged, wishes.id, stamp)
    # A column that stands in two tables cannot be told from its namesake.
    own = {
        name: column
        for name, column in merged.items()
        if sum(name in table.columns for table in tables) == 1 and name != id_column.name and name.isprintable()
    }
    ra, dec = positions_among([name for name in own if name != wishes.label]) or (None, None)
    label, others = _label_column(own, merged, wishes.label, (ra, dec))
    columns = Columns(id=id_column.name, label=label, ra=ra, dec=dec)
    roles = Roles(columns, [], other_labels=others)
    roles.has_bands = len(id_column.matches_with_band) > len(id_column.matches)
    if wishes.features is not None:
        roles.features = list(wishes.features)
        return roles
    taken = {label, ra, dec, *(column.name for column in others)}
    numbers = [name for name, column in own.items() if column.is_number and name not in taken]
    for name in numbers:
        reason = _no_feature(own[name], numbers)
        if reason is None:
            roles.features.append(name)
        else:
            roles.left_out.setdefault(reason, []).append(name)
    codes = [column.name for column in others if column.is_number]
    if codes:
        roles.left_out.setdefault("codes or flags", []).extend(codes)
    for name, column in merged.items():
        if column.is_number and name not in own and name != id_column.name:
            reason = _TWICE if name.isprintable() else _UNPRINTABLE
            roles.left_out.setdefault(reason, []).append(name)
    return roles


def _merged(tables: Sequence[Joined]) -> dict[str, Column]:
    """Return each column by its name; of namesakes in several tables, the one that names most stamps."""
    merged: dict[str, Column] = {}
    for table in tables:
        for name, column in table.columns.items():
            if name not in merged or _matched(column) > _matched(merged[name]):
                merged[name] = column
    return merged


def _matched(column: Column) -> int:
    return max(len(column.matches), len(column.matches_with_band))


def _id_column(tables: Sequence[Joined], merged: dict[str, Column], wished: str | None, stamp: str) -> Column:
    if wished is not None and wished not in merged:
        raise SurveyError(_absent("--id", wished, merged))
    naming = [column for column in merged.values() if _matched(column) and wished in (None, column.name)]
    if not naming:
        column = merged[wished or next(iter(habitual("id", list(merged))), next(iter(merged)))]
        example = f"; {shown(column.name)} holds {shown(column.first)}" if column.first else ""
        raise NoIdError(
            f"no column names the stamps{example}, and a stamp is called {shown(stamp)}; an id is a file's name "
            "without its suffix (and band): rename the files or write the catalogue with such ids",
            Columns(id=column.name, label=None, ra=None, dec=None),
        )
    in_all = [column for column in naming if all(column.name in table.columns for table in tables)]
    naming = in_all or naming
    best = max(map(_matched, naming))
    naming = [column for column in naming if _matched(column) == best]
    usual = set(habitual("id", [column.name for column in naming]))
    naming = [column for column in naming if column.name in usual] or naming
    if len(naming) > 1:
        names = listed(column.name for column in naming)
        raise SurveyError(f"{names} name the stamps equally well; say which one is the id: --id NAME")
    return naming[0]


def _label_column(
    own: dict[str, Column], merged: dict[str, Column], wished: str | None, positions: Sequence[str | None]
) -> tuple[str, list[Column]]:
    """Return the label, and the columns that could be it as well."""
    usual = set(habitual("label", list(own)))
    possible = [
        column
        for column in own.values()
        if _could_be_label(column, column.name in usual) and column.name not in positions
    ]
    if wished is not None:
        if wished not in own:
            raise SurveyError(
                f"--label {shown(wished)} stands in several tables, or is the id; rename it in one of them"
                if wished in merged
                else _absent("--label", wished, merged)
            )
        return wished, [column for column in possible if column.name != wished]
    if not possible:
        alone = next((own[name] for name in own if name in usual and len(own[name].values) == 1), None)
        if alone is not None:
            none = f" beside {alone.missing:,} without a label (None and NA are no names)" if alone.missing else ""
            raise SurveyError(
                f"a classifier needs two classes, but {shown(alone.name)} holds {shown(next(iter(alone.values)))} "
                f"alone{none}; name another column: --label NAME"
            )
        raise SurveyError(
            "no column looks like a class, which few values in many rows are; name it: --label NAME, one of "
            f"{listed(own)}"
        )
    best = min(_rank(column, usual) for column in possible)
    likely = [column for column in possible if _rank(column, usual) == best]
    if len(likely) > 1:
        told = "; ".join(f"{shown(column.name)}, with {counts(column)}" for column in likely[:_TOLD])
        raise SurveyError(f"several columns could be the class: {told}; say which one: --label NAME")
    return likely[0].name, [column for column in possible if column is not likely[0]]


def _could_be_label(column: Column, is_usual: bool) -> bool:
    if not column.has_few_values or len(column.values) < 2 or column.missing > column.known:
        return False
    return is_usual or column.kind == "text" or (column.kind == "whole numbers" and len(column.values) <= _FEW)


def _rank(column: Column, usual: set[str]) -> tuple[int, int]:
    """Return what is low for a column that is likely the label: by its name first, then by what it holds."""
    if column.name in usual:
        lower = column.name.lower()
        return 0, next((rank for rank, word in enumerate(_LABEL_WORDS) if word in lower), len(_LABEL_WORDS))
    return (1, 0) if column.kind == "text" else (2, 0)


def counts(column: Column, told: int = _TOLD) -> str:
    """Return the most frequent values of a column, each with its number of rows, as text that stays on its line."""
    most = [f"{shown(value)[1:-1]} ({count:,})" for value, count in column.values.most_common(told)]
    more = len(column.values) - len(most)
    return ", ".join(most) + (f" and {more} more" if more > 0 else "")


def _no_feature(column: Column, numbers: Sequence[str]) -> str | None:
    """Return why a column of numbers is no feature; None if it may be one."""
    name = column.name
    if name in _RESERVED:
        return _OWN
    if name.endswith("_err") and name.removesuffix("_err") in numbers:
        return None
    if not column.finite:
        return "no value in any row"
    if len(column.values) == 1:
        return "the same in every row"
    if habitual("id", [name]) or _NUMBER.fullmatch(name):
        return "ids and numbers of rows"
    if positions_among(["ra", name]) or positions_among([name, "dec"]) or _SKY.fullmatch(name):
        return "positions"
    if name.endswith("_err"):
        return "errors of what is no feature"
    if _ERROR.fullmatch(name):
        return "errors whose names do not end in _err"
    if _OBSERVATION.fullmatch(name):
        return "of the observation, not of the source"
    if column.kind == "whole numbers" and len(column.values) <= _FEW and column.has_few_values:
        return "codes or flags"
    return None


def _absent(option: str, name: str, there: dict[str, Column]) -> str:
    near = nearest(name, list(there))
    hint = f"did you mean {shown(near)}?" if near else f"there are {listed(there)}"
    return f"{option} {shown(name)}: there is no such column; {hint}"
