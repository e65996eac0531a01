"""Prepared surveys that the pipeline did not write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacewarps.files import outputs
from spacewarps.reading import sha256_of
from spacewarps.survey.prepared import SAMPLES_FILE, STAMPS_FILE, SURVEY_FILE
from spacewarps.writing import write_json, write_text


def write_prepared(folder: Path, stamps: NDArray[Any], samples: pd.DataFrame, features: Sequence[str]) -> None:
    """Write ``stamps``, ``[N, C, H, W]``, and the table of ``N`` samples as ``spacewarps prepare`` does."""
    with outputs() as out:
        target = out.folder(folder)
        np.save(target / STAMPS_FILE, stamps)
        columns = ["id", "source", "split", "label", "ra", "dec", *features]
        write_text(target / SAMPLES_FILE, samples[columns].to_csv(index=False))
        hashes = {name: sha256_of(target / name) for name in (SAMPLES_FILE, STAMPS_FILE)}
        classes = sorted(set(samples["label"]))
        write_json(target / SURVEY_FILE, {"classes": classes, "features": list(features), "sha256": hashes})
