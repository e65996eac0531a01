"""Prepare a survey of five-band FITS stamps for the other benchmarks: quasars of redshift 5 and above, and below.

    python benchmarks/sdss.py SURVEY PREPARED [--size 32] [--magnitudes]

SURVEY holds `photometry.fits` and `spectra.csv.gz`, which share the column `specobjid`, and a folder `images` of
tile-compressed FITS cubes. PREPARED is then a prepared survey, as `spacewarps prepare` writes it.
"""

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
from astropy.table import Table

from spacewarps.files import replaced_directory
from spacewarps.survey.columns import Columns
from spacewarps.survey.prepare import prepare_survey
from spacewarps.survey.settings import SurveySettings

# The redshift decides the class, and its error betrays it: neither may be a feature.
MAGNITUDES = [f"{band}mag{suffix}" for band in "ugriz" for suffix in ("", "_err")]


def write_catalogues(survey: Path, folder: Path) -> None:
    """Write the catalogues of ``survey`` to ``folder``, each error named after its magnitude, as a network knows it."""
    photometry: pd.DataFrame = Table.read(survey / "photometry.fits").to_pandas()
    photometry = photometry.rename(columns={f"e_{band}mag": f"{band}mag_err" for band in "ugriz"})
    photometry.to_csv(folder / "photometry.csv", index=False)
    (folder / "spectra.csv.gz").symlink_to((survey / "spectra.csv.gz").resolve())


def prepare_sdss(survey: Path, folder: Path, *, size: int, seed: int, magnitudes: bool) -> None:
    """Write the survey to ``folder``, with or without the magnitudes as features."""
    settings = SurveySettings(
        columns=Columns(id="specobjid"), features=tuple(MAGNITUDES) if magnitudes else (), stamp_size=size
    )
    with tempfile.TemporaryDirectory() as catalogues, replaced_directory(folder) as target:
        write_catalogues(survey, Path(catalogues))
        prepare_survey(
            target,
            catalog=Path(catalogues),
            images=survey / "images",
            settings=settings,
            seed=seed,
            progress_bar=lambda _what, _total: nullcontext(lambda _done: None),
        )


def main() -> None:
    """Prepare the survey."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--size", type=int, default=64, help="pixels a side that are kept (default: all)")
    parser.add_argument("--magnitudes", action="store_true", help="the magnitudes and their errors are features")
    parser.add_argument("--seed", type=int, default=1, help="of the split (default: %(default)s)")
    options = parser.parse_args()
    prepare_sdss(options.survey, options.prepared, size=options.size, seed=options.seed, magnitudes=options.magnitudes)


if __name__ == "__main__":
    main()
