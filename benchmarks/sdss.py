"""Prepare a survey of five-band FITS stamps for the other benchmarks: quasars of redshift 5 and above, and below.

    python benchmarks/sdss.py SURVEY PREPARED [--size 32] [--magnitudes]

SURVEY holds `photometry.fits` and `spectra.csv.gz`, which share the column `specobjid`, and a folder `images` of
tile-compressed FITS cubes. PREPARED is then a prepared survey, as `spacewarps prepare` writes it.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from prepared_surveys import write_prepared
from spacewarps.survey.sources import group_sources
from spacewarps.survey.split import class_of_sources, split_sources

# The redshift decides the class, and its error betrays it: neither may be a feature.
MAGNITUDES = [f"{band}mag{suffix}" for band in "ugriz" for suffix in ("", "_err")]
RADIUS_ARCSEC = 2.0
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def read_catalogue(survey: Path) -> pd.DataFrame:
    """Return a row for each spectrum: its id as text, position, class and magnitudes."""
    photometry: pd.DataFrame = Table.read(survey / "photometry.fits").to_pandas()
    photometry = photometry.rename(columns={f"e_{band}mag": f"{band}mag_err" for band in "ugriz"})
    photometry["id"] = photometry["specobjid"].astype(str)
    spectra = pd.read_csv(survey / "spectra.csv.gz", dtype={"specobjid": str})
    classes = spectra.rename(columns={"specobjid": "id", "class": "label"})[["id", "label"]]
    joined = photometry.merge(classes, on="id", validate="one_to_one")
    return joined.sort_values("id", ignore_index=True)


def read_stamp(path: Path, size: int) -> NDArray[np.float32]:
    """Return the middle of the cube of one file in nanomaggies, ``[5, size, size]``."""
    with fits.open(path) as file:
        cube = np.asarray(file[1].data, dtype=np.float32)
    top, left = (cube.shape[1] - size) // 2, (cube.shape[2] - size) // 2
    return cube[:, top : top + size, left : left + size]


def prepare_sdss(survey: Path, folder: Path, *, size: int, seed: int, magnitudes: bool) -> None:
    """Write the survey to ``folder``, with or without the magnitudes as features.

    Spectra within 2 arcsec of each other, or with the same pixels, are one source.
    """
    rows = read_catalogue(survey)
    stamps = np.stack([read_stamp(survey / "images" / f"{key}.fits.fz", size) for key in rows["id"]])
    digests = [hashlib.sha256(stamp.tobytes()).hexdigest() for stamp in stamps]
    numbers = group_sources(rows["ra"].to_numpy(float), rows["dec"].to_numpy(float), RADIUS_ARCSEC, digests)
    rows["source"] = rows["id"].groupby(numbers).transform("min")
    classes = class_of_sources(rows["source"].tolist(), rows["label"].tolist())
    rows["split"] = rows["source"].map(split_sources(classes, SHARES, seed))
    write_prepared(folder, stamps, rows, MAGNITUDES if magnitudes else [])


def main() -> None:
    """Prepare the survey."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--size", type=int, default=64, help="pixels a side that are kept, at most 64 (default: all)")
    parser.add_argument("--magnitudes", action="store_true", help="the magnitudes and their errors are features")
    parser.add_argument("--seed", type=int, default=1, help="of the split (default: %(default)s)")
    options = parser.parse_args()
    prepare_sdss(options.survey, options.prepared, size=options.size, seed=options.seed, magnitudes=options.magnitudes)


if __name__ == "__main__":
    main()
