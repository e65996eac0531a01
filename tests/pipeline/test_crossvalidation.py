import json
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.project import Project

pytestmark = pytest.mark.long


@pytest.fixture
def outer(finished: Project, tmp_path: Path) -> Project:
    project = finished.copy(tmp_path / "project")
    params = project.params()
    params["crossvalidate"] = {"folds": 2, "repeats": 1}
    params["search"] |= {"folds": 2, "decides": "loss", "max_layers": 1}
    params["train"] |= {"data": "folds", "folds": 3, "start": "fresh", "calibration": "temperature"}
    project.write_params(params)
    return project


def results(project: Project) -> tuple[dict[str, object], pd.DataFrame]:
    summary = json.loads((project.folder / "reports/crossvalidation.json").read_text(encoding="utf-8"))
    return summary, pd.read_csv(project.folder / "reports/crossvalidation.csv", dtype={"id": str, "source": str})


def without_clock(summary: dict[str, object]) -> dict[str, object]:
    folds = [{name: value for name, value in line.items() if name != "seconds"} for line in summary["folds"]]  # type: ignore[attr-defined]
    return {**summary, "seconds": None, "folds": folds}


def test_every_sample_is_predicted_once_by_a_network_that_has_not_seen_its_source(outer: Project) -> None:
    said = outer.dvc("repro", "crossvalidation/dvc.yaml").stdout
    assert "seed 1, fold 1 of 2: accuracy " in said
    summary, predictions = results(outer)
    samples = pd.read_csv(outer.folder / "data/prepared/samples.csv", dtype={"id": str, "source": str})
    assert sorted(predictions["id"]) == sorted(samples["id"])
    assert (predictions.groupby("source")["fold"].nunique() == 1).all()
    assert [line["fold"] for line in summary["folds"]] == [1, 2]  # type: ignore[attr-defined]
    # Nothing has changed, and the pipeline itself does not concern it.
    assert "didn't change, skipping" in outer.dvc("repro", "crossvalidation/dvc.yaml").stdout.splitlines()[-2]
    assert "crossvalidate" not in outer.dvc("repro", "--dry").stdout

    # What a run that was interrupted had finished is taken over; a fold that was damaged is done again.
    kept = sorted((outer.folder / ".spacewarps/journal/crossvalidation").iterdir())
    assert len(kept) == 2
    kept[0].write_text("{", encoding="utf-8")
    before = kept[1].stat().st_mtime_ns
    assert outer.spacewarps("crossvalidate").returncode == 0
    again, predicted_again = results(outer)
    assert without_clock(again) == without_clock(summary)
    pd.testing.assert_frame_equal(predicted_again, predictions)
    assert kept[1].stat().st_mtime_ns == before

    # A fold of other params is no fold of these.
    params = outer.params()
    params["train"]["epochs"] += 1
    outer.write_params(params)
    shutil.copy(kept[1], outer.folder / ".spacewarps/journal/crossvalidation" / f"{'0' * 64}.fold")
    assert outer.spacewarps("crossvalidate").returncode == 0
    assert len(list((outer.folder / ".spacewarps/journal/crossvalidation").iterdir())) == 5


def test_an_interrupted_crossvalidation_says_what_it_goes_on_from(outer: Project) -> None:
    def kept() -> dict[Path, int]:
        folds = (outer.folder / ".spacewarps/journal/crossvalidation").glob("*.fold")
        return {fold: fold.stat().st_mtime_ns for fold in folds}

    with outer.start("spacewarps.cli", "crossvalidate") as crossvalidate:
        deadline = time.monotonic() + 300
        while not kept():
            assert crossvalidate.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        crossvalidate.terminate()
        _, errors = crossvalidate.communicate(timeout=120)
    assert (crossvalidate.returncode, errors) == (
        130,
        "spacewarps crossvalidate: interrupted; nothing half-written is left, and the same command goes on from the "
        "finished folds and candidates that are in the journal\n",
    )
    first = kept()
    assert len(first) == 1
    assert outer.spacewarps("crossvalidate").returncode == 0
    assert len(kept()) == 2
    assert kept().items() > first.items()
