"""What a look at a survey has found, in sentences; each names the option or the param that says otherwise."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from spacewarps.stages.arguments import in_params
from spacewarps.survey.columns import shown
from spacewarps.survey.inspection.look import Look
from spacewarps.survey.inspection.roles import counts
from spacewarps.survey.inspection.stamps import described
from spacewarps.survey.inspection.tables import Column
from spacewarps.survey.inspection.values import DECIDES
from spacewarps.training.settings import FinalSettings

WIDTH = 100
_COLUMNS_TOLD = 60
_FEATURES_TOLD = 24
_TOLD = 3
# Into so many parts the defaults of the final training deal what is not test.
_FOLDS = FinalSettings().folds
# Of the share that a class would have if all were alike.
_RARE_SHARE = 0.2
# Share of the stamps with masked pixels from which on it may be worth the network's while to see them.
_MANY_MASKED = 0.1
# Sides of stamps of which the defaults of the search are not thought.
_SMALL, _LARGE = 32, 128


class Words:
    """Sentences on one look.

    Args:
        look: what was found.
        catalog: the catalogue as the user named it.
        images: the folder of stamps as the user named it.
    """

    def __init__(self, look: Look, catalog: Path, images: Path) -> None:
        self._look, self._catalog, self._images = look, catalog, images

    def lines(self) -> Iterator[str]:
        """Yield lines for a terminal."""
        yield from self._catalogue()
        yield ""
        for name, sentences in {
            "id": self._id(),
            "label": self._label(),
            "positions": self._positions(),
            "features": self._features(),
            "stamps": self._stamps(),
            "to know": self._faults(),
        }.items():
            text = in_params(" ".join(sentences), "prepare")
            if text:
                yield from textwrap.wrap(
                    f"{name}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
                )

    def above(self) -> dict[str, str]:
        """Return the comments that stand above params."""
        look = self._look
        found: dict[str, str] = {}
        if look.leaks:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in look.leaks.items())
            found["features"] = f"not among the features, as the class can be told from it alone: {reasons}"
        return {
            name: "\n".join(textwrap.wrap("".join(c if c.isprintable() else " " for c in text), 110))
            for name, text in found.items()
        }

    def _catalogue(self) -> Iterator[str]:
        look = self._look
        yield f"{self._catalog} holds"
        for table in look.tables:
            files = table.files[0] + (f" and {len(table.files) - 1} more files" if len(table.files) > 1 else "")
            yield f"  {_number(table.rows, 'row')} of {_number(len(table.columns), 'column')} in {files}"
        by_name: dict[str, Column] = {}
        for table in look.tables:
            for column in table.columns.values():
                by_name.setdefault(column.name, column)
        columns = list(by_name.values())
        told = columns[:_COLUMNS_TOLD]
        wide = min(30, max(len(_short(column.name)) for column in told))
        yield f"  {'column':{wide}}  {'holds':13}  missing  alone  taken for"
        for column in told:
            share = column.missing / max(1, column.rows)
            missing = f"{share:.1%}" if column.missing else "0"
            alone = f"{look.alone[column.name]:.2f}" if column.name in look.alone else ""
            line = f"  {_short(column.name):{wide}}  {column.kind:13}  {missing:>7}  {alone:>5}  {self._role(column)}"
            yield line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."
        if len(columns) > len(told):
            yield f"  and {_number(len(columns) - len(told), 'more column')}"
        if look.alone:
            yield from textwrap.wrap(
                "alone: how well this column by itself tells the class, as balanced accuracy of a small tree on "
                f"sources that it has not seen; guessing has {1 / len(look.classes):.2f}",
                WIDTH,
                initial_indent="  ",
                subsequent_indent="  ",
            )

    def _role(self, column: Column) -> str:
        look, name = self._look, column.name
        columns = look.settings.columns
        roles = {
            columns.id: "the id",
            columns.label: "the label",
            columns.ra: "right ascension",
            columns.dec: "declination",
        }
        if name in roles:
            return roles[name]
        if name in look.settings.features:
            return "a feature"
        if name in look.leaks:
            return "nothing: it gives the class away"
        reason = next((why for why, names in look.roles.left_out.items() if name in names), None)
        if reason is not None:
            return f"nothing: {reason}"
        return "nothing" if column.is_number or not column.known else f"nothing: {column.kind}"

    def _id(self) -> Iterator[str]:
        look = self._look
        ids = shown(look.settings.columns.id)
        rows = look.classes.total()
        with_stamp = rows - len(look.without_stamp)
        yield f"{ids} names the stamps of {with_stamp:,} of {_number(rows, 'row')} that can be used."
        if look.without_stamp:
            yield f"Without a stamp: {_some(look.without_stamp)}."
        if look.orphans:
            yield f"Without a usable row: {_some(look.orphans)}."

    def _label(self) -> Iterator[str]:
        look = self._look
        label = shown(look.settings.columns.label or "")
        most = ", ".join(f"{shown(name)[1:-1]} ({count:,})" for name, count in look.classes.most_common(12))
        more = len(look.classes) - 12
        yield f"{label} has {_number(len(look.classes), 'class', 'classes')}: {most}" + (
            f" and {more} more." if more > 0 else "."
        )
        even = look.classes.total() / len(look.classes)
        rare = [name for name, count in look.classes.items() if count < _RARE_SHARE * even]
        if rare:
            yield (
                f"Rare: {_some(rare)}; optimiser.class_weights=balanced and search.decides=balanced_accuracy let a "
                "rare class count as much as a frequent one."
            )
        few = [name for name, count in look.sources.items() if count * (1 - look.settings.split.test) < _FOLDS]
        if few:
            yield (
                f"Of few sources: {_some(few)}; if search or training say that it cannot be dealt into folds, lower "
                "search.folds and train.folds."
            )
        others = [f"{shown(column.name)}, with {counts(column)}" for column in look.roles.other_labels[:_TOLD]]
        if others:
            yield f"Another --label could be {'; or '.join(others)}."

    def _positions(self) -> Iterator[str]:
        look = self._look
        columns = look.settings.columns
        if columns.ra is None or columns.dec is None:
            yield (
                "no columns look like right ascension and declination, so repeats of a source are seen only where "
                "their stamps are the same file."
            )
            return
        yield (
            f"{shown(columns.ra)} and {shown(columns.dec)}. Rows within {look.settings.group_radius_arcsec:g} arcsec "
            f"are one source: {_number(look.sources.total(), 'source')}"
            + (f", {look.repeats:,} of which have several rows" if look.repeats else "")
            + (f" and {look.conflicts:,} rows of different classes (`label_conflicts`)" if look.conflicts else "")
            + "."
        )

    def _features(self) -> Iterator[str]:
        look = self._look
        features = look.settings.features
        told = ", ".join(map(shown, features[:_FEATURES_TOLD]))
        more = f" and {len(features) - _FEATURES_TOLD:,} more" if len(features) > _FEATURES_TOLD else ""
        yield f"{told}{more}." if features else "none; the network sees stamps alone."
        deciding = [
            name for name in look.leaks if look.alone.get(name) and not look.leaks[name].startswith("the error")
        ]
        if deciding:
            figures = ", ".join(f"{shown(name)} ({look.leaks[name]})" for name in deciding)
            errors = [name for name in look.leaks if name not in deciding]
            yield (
                f"Left out, as the class can be told from it alone: {figures}"
                + (f", and {', '.join(map(shown, errors))} with it" if errors else "")
                + "; if the label is defined by it, a network that sees it learns nothing else. "
                "Name all features to have it: --features NAME ..."
            )
        telling = [name for name in look.alone if name not in (*features, *deciding) and look.alone[name] >= DECIDES]
        if telling:
            yield (
                f"No features, but they tell the class as well: {_some(telling)}; was each class observed in its own "
                "way? Then stamps may tell which, too."
            )
        for name, codes in look.settings.missing_codes.items():
            yield f"{shown(name)} has {' and '.join(f'{code:g}' for code in codes)} for no value (`missing_codes`)."
        texts = [
            f"{shown(column.name)} ({shown(column.first)})"
            for table in look.tables
            for column in table.columns.values()
            if column.looks_like_numbers and self._role(column).startswith("nothing")
        ]
        if texts:
            yield (
                f"Text, and so no features, but nearly numbers: {', '.join(texts[:_TOLD])}; numbers have a decimal "
                "point and nothing beside."
            )
        strange = look.roles.left_out.get("errors whose names do not end in _err")
        if strange:
            yield f"To have errors such as {shown(strange[0])} beside what they are of, give them its name with _err."

    def _stamps(self) -> Iterator[str]:
        look, stamps = self._look, self._look.stamps
        kinds = ", ".join(stamps.suffixes)
        yield (
            f"{self._images} holds {_number(look.files, 'file')}; {_number(stamps.count, 'stamp')} looked at ({kinds})."
        )
        shapes = "; ".join(f"{described(shape)} ({count})" for shape, count in stamps.shapes.most_common(_TOLD))
        more = len(stamps.shapes) - _TOLD
        yield f"They have {shapes}" + (f" and {more} more shapes." if more > 0 else ".")
        yield f"Pixels are from {stamps.lowest:.4g} to {stamps.highest:.4g}."
        if stamps.masked:
            yield (
                f"Masked or not finite: pixels of {_number(len(stamps.masked), 'stamp')}, at most "
                f"{max(stamps.masked):.1%} of one."
            )
            if len(stamps.masked) >= _MANY_MASKED * stamps.count:
                yield "With `masks` set to channel, the network sees which pixels these are."
        if look.settings.stamp_bands:
            bands = ", ".join(look.settings.stamp_bands)
            yield f"Each band is a file of its own; from short to long waves, `stamp_bands` is [{bands}]."
        if look.other_bands:
            yield f"Not of all stamps, so left out: {_some(look.other_bands)}."
        if stamps.how.stamp_extension is not None:
            extension = shown(str(stamps.how.stamp_extension))
            yield f"Of several images in a file, {extension} is read: --extension NAME for another."
        yield from self._size()

    def _size(self) -> Iterator[str]:
        shapes, size = self._look.stamps.shapes, self._look.settings.stamp_size
        if size is not None:
            larger = sum(count for shape, count in shapes.items() if max(shape.height, shape.width) > size)
            smaller = sum(count for shape, count in shapes.items() if min(shape.height, shape.width) < size)
            yield (
                f"They are not all of one square size: {_number(larger, 'stamp')} would be cropped and "
                f"{_number(smaller, 'stamp')} padded to {size} pixels a side (`stamp_size`)."
            )
        side = size or next(iter(shapes)).height
        if side < _SMALL:
            yield (
                f"Each block halves a stamp, so {side} pixels a side allow at most "
                f"{_number(side.bit_length() - 1, 'block')}: lower search.max_layers."
            )
        if side > _LARGE:
            yield f"{side} pixels a side take long to learn from; a smaller `stamp_size` cuts out the centre."

    def _faults(self) -> Iterator[str]:
        look = self._look
        rows, unusable = look.audit.rows_in, look.unusable
        bad = sum(unusable.values())
        if bad:
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in sorted(unusable.items()))
            yield f"{bad:,} of {_number(rows, 'row')} cannot be used: {reasons}."
        if bad > look.settings.max_bad_fraction * rows:
            yield (
                f"That is more than `max_bad_fraction` ({look.settings.max_bad_fraction:g}) allows, so `dvc repro` "
                f"will stop; if these rows are to be left out, set it to {min(1.0, round(bad / rows + 0.01, 2)):g}."
            )
        for fault, count in look.stamps.faults.most_common(_TOLD):
            yield f"Of the stamps looked at, {count} cannot be used: {fault}."
        for note in look.audit.notes:
            yield f"{note[0].upper()}{note[1:]}{'' if note.endswith('?') else '.'}"


def _number(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def _some(names: Iterable[str]) -> str:
    """Return how many there are, and the first of them."""
    all_names: Sequence[str] = list(names)
    first = ", ".join(map(shown, all_names[:_TOLD]))
    return f"{len(all_names):,} ({first}{', ...' if len(all_names) > _TOLD else ''})"


def _short(name: str) -> str:
    text = shown(name)[1:-1]
    return text if len(text) <= 30 else f"{text[:27]}..."
