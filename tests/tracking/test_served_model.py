import gzip
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from spacewarps.survey.settings import StampSettings
from spacewarps.tracking.served_model import StampClassifier
from tests.prediction.conftest import save_classifier

STAMP = np.random.default_rng(1).normal(100, 20, (1, 8, 8)).astype(np.float32)
Serve = Callable[..., StampClassifier]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    numbers = itertools.count()

    def serve(pixels: str = "float32", **how: Any) -> StampClassifier:
        served, positions = StampClassifier(), ("ra", "dec") if "stamp_centre" in how else None
        folder = tmp_path / f"model{next(numbers)}"
        served.classifier = save_classifier(folder, stamps=StampSettings(**how), pixels=pixels, positions=positions)
        return served

    return serve


def ask(served: StampClassifier, z: float = 0.5, **row: Any) -> pd.DataFrame:
    rows = pd.DataFrame([{"z": z, "z_err": 0.1, **row}])
    answers: pd.DataFrame = served.predict(None, rows)  # type: ignore[no-untyped-call]
    return answers


def as_fits(stamp: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(stamp[0]).writeto(file)
    return file.getvalue()


def as_tiles(stamp: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(stamp[0], compression_type="GZIP_1", quantize_level=0)]).writeto(
        file
    )
    return file.getvalue()


def as_numpy(stamp: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, stamp)
    return file.getvalue()


def as_archive(stamp: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.savez(file, stamp)
    return file.getvalue()


@pytest.mark.parametrize(
    "written", [as_fits, as_tiles, lambda stamp: gzip.compress(as_fits(stamp)), as_numpy, as_archive]
)
def test_a_file_of_any_format_is_a_stamp(serve: Serve, written: Callable[[NDArray[np.float32]], bytes]) -> None:
    served = serve()
    pd.testing.assert_frame_equal(ask(served, stamp=written(STAMP)), ask(served, pixels=STAMP.tolist()))


def test_a_larger_file_is_cut_to_its_middle_unless_a_position_is_its_centre(serve: Serve) -> None:
    larger = np.pad(STAMP, ((0, 0), (2, 2), (2, 2)), constant_values=7)
    served = serve(stamp_size=8)
    pd.testing.assert_frame_equal(ask(served, stamp=as_fits(larger)), ask(served, pixels=STAMP.tolist()))
    around = serve(stamp_size=8, stamp_centre="position")
    pd.testing.assert_frame_equal(ask(around, stamp=as_fits(STAMP)), ask(around, pixels=STAMP.tolist()))
    with pytest.raises(MlflowException, match=r"row 0: stamp that is cut at the position .* send one of 8 x 8 pixels"):
        ask(around, stamp=as_fits(larger))


def test_a_code_for_no_value_is_none(serve: Serve) -> None:
    served = serve("uint8")
    stamp = STAMP.astype(np.uint8).tolist()
    coded, missing, other = (ask(served, z, pixels=stamp) for z in (-9999.0, np.nan, -9998.0))
    pd.testing.assert_frame_equal(coded, missing)
    assert coded["unusual"][0].startswith("z missing")
    assert coded["p_QSO"][0] != other["p_QSO"][0]


def test_a_pixel_that_nobody_measured_takes_the_sky_of_its_stamp(serve: Serve) -> None:
    served = serve()
    hidden = STAMP.copy()
    hidden[0, 0, :2] = np.nan
    sky = np.where(np.isnan(hidden), np.nanmedian(hidden), hidden)
    of_null = hidden.tolist()
    of_null[0][0][:2] = [None, None]
    for row in ({"pixels": hidden.tolist()}, {"pixels": of_null}, {"stamp": as_fits(hidden)}):
        pd.testing.assert_frame_equal(ask(served, **row), ask(served, pixels=sky.tolist()))


def test_pixels_that_no_file_of_the_survey_could_hold_are_refused(serve: Serve) -> None:
    stamp = STAMP.astype(np.uint8).tolist()
    for value in (300, -1, 0.5, None):
        stamp[0][0][0] = value
        with pytest.raises(MlflowException, match=r"row 0: 'pixels' must be whole numbers from 0 to 255"):
            ask(serve("uint8"), pixels=stamp)
    stamp[0][0][0] = 1e30
    with pytest.raises(MlflowException, match=r"row 0: stamp with pixels beyond"):
        ask(serve(), pixels=stamp)
