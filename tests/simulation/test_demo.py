import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from spacewarps.errors import SurveyError
from spacewarps.simulation.demo import (
    Source,
    correlated_noise,
    draw_catalogue,
    expose,
    simulate_survey,
    stamp_jobs,
    stretch,
    write_stamps,
)

N_SAMPLES = 100


def digests(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def separations(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    east = (ra[:, None] - ra) * np.cos(np.radians(dec)) * 3600.0
    return np.hypot(east, (dec[:, None] - dec) * 3600.0)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    simulate_survey(directory, n_samples=N_SAMPLES, seed=11)
    return directory


@pytest.fixture(scope="module")
def catalogue(survey: Path) -> pd.DataFrame:
    labels = pd.read_csv(survey / "catalog" / "labels.csv", dtype=str, keep_default_na=False)
    redshifts = pd.read_csv(survey / "catalog" / "redshifts.csv", dtype={"id": str}, keep_default_na=False)
    assert list(labels.columns) == ["id", "class", "subclass"]
    assert list(redshifts.columns) == ["id", "ra", "dec", "z", "z_err"]
    assert list(labels["id"]) == list(redshifts["id"])
    return pd.concat([labels, redshifts.drop(columns="id")], axis=1)


@pytest.fixture(scope="module")
def source(catalogue: pd.DataFrame) -> npt.NDArray[np.int64]:
    near = separations(catalogue["ra"].to_numpy(), catalogue["dec"].to_numpy()) < 2.0
    return np.asarray(near.argmax(axis=1), dtype=np.int64)


def test_same_bytes_and_progress_with_one_process_and_with_two(survey: Path, tmp_path: Path) -> None:
    finished: list[int] = []
    simulate_survey(tmp_path, n_samples=N_SAMPLES, seed=11, processes=2, progress=finished.append)
    assert digests(tmp_path) == digests(survey)
    assert len(finished) > 1
    assert sum(finished) == len(list((tmp_path / "images").iterdir()))


def test_another_seed_gives_another_survey(survey: Path, tmp_path: Path) -> None:
    simulate_survey(tmp_path, n_samples=60, seed=12)
    assert not set(digests(survey).values()) & set(digests(tmp_path).values())


def test_noise_and_neighbours_change_with_the_seed() -> None:
    star = Source(index=0, kind="STAR", z=0.0, magnitude=20.0, early=False)
    assert (expose(star, 11, 0) == expose(star, 11, 0)).all()
    assert (expose(star, 11, 0) != expose(star, 12, 0)).mean() > 0.5


def test_a_stamp_does_not_depend_on_what_was_drawn_before_it(survey: Path, tmp_path: Path) -> None:
    jobs = stamp_jobs(*draw_catalogue(N_SAMPLES, 11), 11)
    write_stamps(jobs[10:4:-1], tmp_path)
    some, whole = digests(tmp_path), digests(survey / "images")
    assert len(some) >= 6
    assert some.items() <= whole.items()


@pytest.mark.parametrize("n_samples", [60, 61, 1000, 1001, 4000])
def test_has_the_asked_number_of_rows(n_samples: int) -> None:
    assert len(draw_catalogue(n_samples, 3)[1]) == n_samples


def test_tells_progress_of_every_stamp(tmp_path: Path) -> None:
    finished: list[int] = []
    simulate_survey(tmp_path, n_samples=60, seed=3, progress=finished.append)
    assert len(finished) > 1
    assert sum(finished) == len(list((tmp_path / "images").iterdir())) == 59


@pytest.mark.parametrize("seed", range(25))
def test_the_smallest_survey_has_every_fault(seed: int) -> None:
    _, rows = draw_catalogue(60, seed)
    classes: dict[int, set[str]] = {}
    for row in rows:
        classes.setdefault(row.source, set()).add(row.label)
    assert any(len(labels) > 1 for labels in classes.values())
    assert any(row.z_err < 0 for row in rows)
    assert any(row.z_err == 0 for row in rows)
    assert any(row.exposure > 0 for row in rows)
    assert sum(row.sample_id == "" for row in rows) == 1
    assert sum(row.image_name is None for row in rows) == 1
    assert {len(row.sample_id) for row in rows} == {0, 28, 29}


def test_stamps_are_75_pixels_of_8_bit_grey(survey: Path) -> None:
    for path in (survey / "images").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (75, 75))


def test_the_tree_holds_nothing_else(survey: Path) -> None:
    assert sorted(path.name for path in survey.iterdir()) == ["catalog", "images"]
    assert sorted(path.name for path in (survey / "catalog").iterdir()) == ["labels.csv", "redshifts.csv"]
    assert {path.suffix for path in (survey / "images").iterdir()} == {".jpg"}


def test_classes_are_balanced_like_a_real_delivery(catalogue: pd.DataFrame) -> None:
    shares = catalogue["class"].value_counts(normalize=True)
    assert set(shares.index) == {"GALAXY", "STAR", "QSO"}
    assert shares.between(0.22, 0.46).all()


def test_ids_have_28_digits_or_29_and_differ(catalogue: pd.DataFrame) -> None:
    ids = catalogue["id"][catalogue["id"] != ""]
    assert ids.is_unique
    assert ids.str.fullmatch(r"\d{28,29}").all()
    assert set(ids.str.len()) == {28, 29}
    assert ids.astype(float).nunique() < len(ids), "read as numbers, some ids must become the same"


def test_repeats_lie_within_2_arcsec_and_sources_beyond_10(catalogue: pd.DataFrame) -> None:
    apart = separations(catalogue["ra"].to_numpy(), catalogue["dec"].to_numpy())
    assert not ((apart > 1.5) & (apart < 10.0)).any()
    n_sources = len(np.unique((apart < 2.0).argmax(axis=1)))
    assert n_sources == pytest.approx(0.69 * len(catalogue), rel=0.08)


def test_most_repeats_have_the_same_file_and_some_their_own(
    survey: Path, catalogue: pd.DataFrame, source: npt.NDArray[np.int64]
) -> None:
    stamps = digests(survey / "images")
    delivered = catalogue["id"].map(lambda name: stamps.get(f"{name}.jpg"))
    repeats = pd.DataFrame({"source": source, "stamp": delivered}).dropna().groupby("source")["stamp"]
    several = repeats.nunique()[repeats.size() > 1]
    assert (several == 1).mean() > 0.5
    assert (several > 1).any()


def test_some_repeats_disagree_about_the_class(catalogue: pd.DataFrame, source: npt.NDArray[np.int64]) -> None:
    classes = catalogue.groupby(source)["class"]
    disagree = classes.nunique() > 1
    assert disagree.any()
    assert disagree[classes.size() > 1].mean() < 0.5


def test_redshifts_lie_where_each_class_has_them(catalogue: pd.DataFrame) -> None:
    fitted = catalogue[catalogue["z_err"] != 0]
    z = {name: rows["z"] for name, rows in fitted.groupby("class")}
    assert z["STAR"].abs().max() < 0.004
    assert z["GALAXY"].between(0.001, 1.01).all()
    assert z["QSO"].between(0.05, 4.6).all()
    assert z["QSO"].max() > 2.0
    # Redshift alone must not decide between galaxies and quasars.
    assert z["QSO"].min() < z["GALAXY"].max()


def test_codes_of_failed_fits(catalogue: pd.DataFrame) -> None:
    failed = catalogue[catalogue["z_err"] < 0]
    assert len(failed) > 0
    assert (failed["z_err"] == -1).all()
    assert (failed["class"] == "QSO").all()
    unfitted = catalogue[catalogue["z_err"] == 0]
    assert (unfitted["z"] == 0).all()
    assert (unfitted["class"] == "GALAXY").mean() > 0.7
    assert 0.03 < len(unfitted) / len(catalogue) < 0.1


def test_one_row_without_id_one_missing_stamp_and_one_orphan(survey: Path, catalogue: pd.DataFrame) -> None:
    stamps = {path.stem for path in (survey / "images").iterdir()}
    ids = set(catalogue["id"])
    assert (catalogue["id"] == "").sum() == 1
    assert len(ids - stamps - {""}) == 1
    assert stamps - ids == {"nan"}


def test_a_bright_source_lies_on_black_and_a_faint_one_on_grey() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-37:38, -37:38]
    point = np.exp(-(x**2 + y**2) / 8.0)
    noise = correlated_noise(rng, np.ones((75, 75)))
    bright, faint = stretch(1000.0 * point + noise), stretch(5.0 * point + noise)
    assert np.median(bright) < 30
    assert np.median(faint) > 120
    for stamp in (bright, faint):
        assert 10 <= (stamp == 255).sum() <= 30
        assert 10 <= (stamp == 0).sum() <= 60


def test_noise_has_the_asked_variance_and_correlates_neighbours_only() -> None:
    noise = correlated_noise(np.random.default_rng(1), np.full((400, 400), 9.0))
    assert noise.var() == pytest.approx(9.0, rel=0.03)
    correlations = [float(np.mean(noise[:, lag:] * noise[:, :-lag]) / noise.var()) for lag in (1, 2, 3)]
    assert correlations == pytest.approx([0.17, -0.03, 0.0], abs=0.02)


@pytest.mark.parametrize(
    ("n_samples", "processes", "message"),
    [
        (5, 1, "Number of samples must be at least 60, but got n_samples=5."),
        (300_001, 1, "Number of samples must be at most 300000, but got n_samples=300001."),
        (60, 0, "Number of processes must be at least 1, but got processes=0."),
    ],
)
def test_says_what_is_out_of_range(tmp_path: Path, n_samples: int, processes: int, message: str) -> None:
    with pytest.raises(SurveyError) as caught:
        simulate_survey(tmp_path, n_samples=n_samples, seed=0, processes=processes)
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())
