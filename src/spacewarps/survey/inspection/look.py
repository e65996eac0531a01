"""All that can be said of a survey before it is prepared, and the settings that would prepare it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from spacewarps.errors import SurveyError
from spacewarps.features import are_errors
from spacewarps.seeds import numpy_generator
from spacewarps.survey.audit import Audit
from spacewarps.survey.catalogue import read_catalogue
from spacewarps.survey.images import StampError
from spacewarps.survey.inspection.roles import UNREADABLE, NoIdError, Roles, Wishes, choose_roles
from spacewarps.survey.inspection.stamp_names import StampNames
from spacewarps.survey.inspection.stamps import MOST_STAMPS, FoundStamps, inspect_sample
from spacewarps.survey.inspection.tables import Joined, inspect_tables
from spacewarps.survey.inspection.values import DECIDES, MOST_ROWS, Folds, missing_codes, spread_over
from spacewarps.survey.settings import StampSettings, SurveySettings
from spacewarps.survey.sources import group_sources
from spacewarps.survey.split import class_of_sources, split_sources
from spacewarps.survey.stamps import Files, StampFolder

# Columns whose values are held at a time.
_AT_ONCE = 32
# Of the generators that draw what is looked at.
_SEED = 1


@dataclass
class Look:
    """What was found.

    Args:
        tables: the catalogue, column by column.
        roles: what each column is taken for.
        settings: what would prepare the survey.
        audit: the rows that cannot be used, and what may be wrong.
        classes: the rows of each class.
        sources: the sources of each class, as far as positions tell.
        repeats: the sources of several rows.
        conflicts: those whose rows disagree about the class.
        alone: the columns of numbers, and how well each by itself tells the class.
        leaks: those that decide it, and the errors of these.
        stamps: a sample of the stamps.
        files: how many files there are.
        orphans: those that belong to no row.
        without_stamp: ids of rows that have none, and the reasons.
        other_bands: bands that some of the stamps have.
    """

    tables: list[Joined]
    roles: Roles
    settings: SurveySettings
    audit: Audit
    classes: Counter[str]
    sources: Counter[str]
    repeats: int
    conflicts: int
    alone: dict[str, float]
    leaks: dict[str, str]
    stamps: FoundStamps
    files: int
    orphans: list[str]
    without_stamp: dict[str, str]
    other_bands: list[str] = field(default_factory=list)

    @property
    def unusable(self) -> dict[str, int]:
        """Why rows cannot be used, and how many, as far as this is known without every stamp being read."""
        reasons = {reason: len(rows) for reason, rows in self.audit.left_out.items()}
        return reasons | dict(Counter(self.without_stamp.values()))


def look_at_survey(
    catalog: Path, images: Path, wishes: Wishes, *, extension: int | str | None = None, seed: int = 1
) -> Look:
    """Look at every row of a catalogue, and at a sample of its stamps.

    Args:
        catalog: one catalogue, or a folder of them.
        images: the folder of stamps.
        wishes: what the user has said.
        extension: of FITS with several images, or NumPy archives, the one that is the stamp.
        seed: that of the run, for the split that must be possible.

    Raises:
        SurveyError: the survey cannot be used, or something cannot be known unless the user says it.
    """
    folder = StampFolder(images)
    names = StampNames(folder)
    tables = inspect_tables(catalog, wishes.id, names)
    try:
        roles = choose_roles(tables, wishes, next(iter(folder.files)))
    except NoIdError as error:
        # What keeps an id from naming its stamp may be known: it was read as a number, and so on.
        read_catalogue(catalog, error.without_id, (), Audit(), missing_codes={}, max_bad_fraction=1.0)
        raise
    # Refuses what cannot be together, as an id among the features, before anything is measured.
    allowed = SurveySettings(columns=roles.columns, features=tuple(roles.features)).max_bad_fraction
    codes, alone = _measure(catalog, roles, 1.0 if wishes.features is None else allowed)
    leaks = {} if wishes.features is not None else _leaks(roles.features, alone)
    features = tuple(name for name in roles.features if name not in leaks)
    audit = Audit()
    settings = SurveySettings(
        columns=roles.columns,
        features=features,
        missing_codes={name: tuple(codes[name]) for name in features if codes.get(name)},
    )
    samples = read_catalogue(
        catalog,
        settings.columns,
        features,
        audit,
        missing_codes=settings.missing_codes,
        max_bad_fraction=settings.max_bad_fraction,
    )
    sources = _sources_of(samples, settings.group_radius_arcsec)
    of_source = _checked_classes(samples, sources, settings, audit, catalog, seed)
    bands, other_bands = names.bands_of(samples["id"].tolist()) if roles.has_bands else ((), [])
    folder = StampFolder(images, bands)
    files, without = _files_of(samples["id"].tolist(), folder)
    stamps = inspect_sample(_some(files), StampSettings(stamp_bands=bands, stamp_extension=extension))
    if not stamps.shapes:
        raise SurveyError(f"{images}: no stamp of {stamps.count} can be read; {stamps.faults.most_common(1)[0][0]}")
    stems = {stem for key in samples["id"] for stem in folder.stems_of(key)}
    orphans = [name for stem, there in folder.files.items() if stem not in stems for name in there]
    rows_of = Counter(sources.tolist())
    labels_of = samples["label"].groupby(sources).nunique()
    return Look(
        tables=tables,
        roles=roles,
        settings=replace(
            settings,
            stamp_bands=bands,
            stamp_size=stamps.how.stamp_size,
            stamp_extension=stamps.how.stamp_extension,
        ),
        audit=audit,
        classes=Counter(samples["label"]),
        sources=of_source,
        repeats=sum(1 for count in rows_of.values() if count > 1),
        conflicts=int((labels_of > 1).sum()),
        alone=alone,
        leaks=leaks,
        stamps=stamps,
        files=sum(map(len, folder.files.values())),
        orphans=orphans,
        without_stamp=without,
        other_bands=other_bands,
    )


def _measure(catalog: Path, roles: Roles, max_bad_fraction: float) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the codes among each column's values, and how well each column alone tells the class."""
    others = [name for reason, names in roles.left_out.items() if reason not in UNREADABLE for name in names]
    measured = list(dict.fromkeys([*roles.features, *others]))
    errors = dict(zip(measured, are_errors(measured), strict=True))
    codes: dict[str, list[float]] = {}
    alone: dict[str, float] = {}
    folds: Folds | None = None
    for first in range(0, max(1, len(measured)), _AT_ONCE):
        part = measured[first : first + _AT_ONCE]
        samples = read_catalogue(
            catalog, roles.columns, part, Audit(), missing_codes={}, max_bad_fraction=max_bad_fraction
        )
        if folds is None:
            rows = np.array(
                spread_over(len(samples), MOST_ROWS, numpy_generator(_SEED, "inspection", "rows")), dtype=int
            )
            sources = _sources_of(samples, SurveySettings().group_radius_arcsec)
            folds = Folds(samples["label"].iloc[rows].tolist(), sources[rows].tolist())
        for name in part:
            codes[name] = missing_codes(samples[name].to_numpy(), errors[name])
        # Where a survey has looked for each class may tell them apart, too.
        of_column = {name: name for name in part}
        if not first and roles.columns.ra is not None and roles.columns.dec is not None:
            of_column |= {roles.columns.ra: "ra", roles.columns.dec: "dec"}
        for name, column in of_column.items():
            values = samples[column].to_numpy()
            values = np.where(np.isin(values, codes.get(name, ())), np.nan, values)
            accuracy = folds.accuracy_alone(values[rows])
            if accuracy is not None:
                alone[name] = accuracy
    return codes, alone


def _leaks(features: Sequence[str], alone: dict[str, float]) -> dict[str, str]:
    """Return the features that decide the class, and the errors of such, each with the reason."""
    deciding = [name for name in features if alone.get(name, 0.0) >= DECIDES]
    leaks = {name: f"{alone[name]:.3f}" for name in deciding}
    return leaks | {f"{name}_err": f"the error of {name}" for name in deciding if f"{name}_err" in features}


def _sources_of(samples: pd.DataFrame, radius_arcsec: float) -> np.ndarray:
    if samples.empty:
        return np.zeros(0, dtype=np.int64)
    # Without stamps: which of them are the same file is seen when all are read.
    return group_sources(samples["ra"].to_numpy(), samples["dec"].to_numpy(), radius_arcsec, samples["id"].tolist())


def _checked_classes(
    samples: pd.DataFrame, sources: np.ndarray, settings: SurveySettings, audit: Audit, catalog: Path, seed: int
) -> Counter[str]:
    """Return the sources of each class; refuse fewer than two, and one that cannot be split: no params mend that."""
    labels = sorted(set(samples["label"]))
    if len(labels) < 2:
        audit.check_bad_fraction(audit.rows_in, settings.max_bad_fraction, catalog)
        what = f"{labels[0]!r:.80} alone" if labels else "none"
        raise SurveyError(
            f"{catalog}: a classifier needs two classes, but the {len(samples)} usable rows hold {what}; name another "
            "column: --label NAME"
        )
    of_source = class_of_sources([str(number) for number in sources], samples["label"].tolist())
    split_sources(of_source, settings.split.by_split(), seed)
    return Counter(of_source.values())


def _files_of(ids: Sequence[str], folder: StampFolder) -> tuple[list[Files], dict[str, str]]:
    """Return the files of each id that has a stamp, and why others have none."""
    found: list[Files] = []
    without: dict[str, str] = {}
    for key in ids:
        try:
            found.append(folder.find(key))
        except StampError as fault:
            without[key] = str(fault)
    return found, without


def _some(files: list[Files]) -> list[Files]:
    """Return a sample that is spread over the names."""
    return [files[n] for n in spread_over(len(files), MOST_STAMPS, numpy_generator(_SEED, "inspection", "stamps"))]
