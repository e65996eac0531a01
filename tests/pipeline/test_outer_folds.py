import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project

KEPT = ".spacewarps/journal/crossvalidation"


@pytest.fixture
def project(on_prepared: Project) -> Project:
    return on_prepared


def change(project: Project, **sections: Mapping[str, object]) -> None:
    params = project.params()
    for section, values in sections.items():
        params[section] |= values
    project.write_params(params)


def change_survey(project: Project, chosen: slice, height: int) -> None:
    """Keep only the ``chosen`` rows of the prepared survey, and so many lines of their stamps."""
    folder = project.folder / "data/prepared"
    stamps, samples = np.load(folder / "stamps.npy"), pd.read_csv(folder / "samples.csv")
    np.save(folder / "stamps.npy", stamps[chosen, :, :height])
    samples[chosen].to_csv(folder / "samples.csv", index=False)


def results(project: Project) -> tuple[list[dict[str, object]], bytes]:
    summary = json.loads((project.folder / "reports/crossvalidation.json").read_text(encoding="utf-8"))
    folds = [{name: value for name, value in line.items() if name != "seconds"} for line in summary["folds"]]
    return folds, (project.folder / "reports/crossvalidation.csv").read_bytes()


def kept(project: Project) -> list[Path]:
    return sorted((project.folder / KEPT).iterdir())


def test_a_kept_fold_that_stands_in_the_place_of_another_is_not_taken_for_it(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(project, "crossvalidate")[0] == 0
    before, (one, other) = results(project), kept(project)
    was = other.stat().st_mtime_ns
    shutil.copy(other, one)
    assert spacewarps_here(project, "crossvalidate")[0] == 0
    assert results(project) == before
    assert one.read_bytes() != other.read_bytes()
    assert other.stat().st_mtime_ns == was


def test_a_folder_in_the_place_of_a_kept_fold_costs_that_fold_alone(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(project, "crossvalidate")[0] == 0
    before, place = results(project), kept(project)[0]
    place.unlink()
    (place / "mine").mkdir(parents=True)
    status, said, _ = spacewarps_here(project, "crossvalidate")
    assert status == 0
    assert f"{place}: cannot be written (Is a directory); the result is the same, but this fold is done again" in said
    assert results(project) == before
    assert (place / "mine").is_dir()


@pytest.mark.parametrize("command", ["crossvalidate", "plan"])
def test_stamps_that_cannot_be_turned_are_refused_before_the_work(
    project: Project, spacewarps_here: SpacewarpsHere, command: str
) -> None:
    change_survey(project, slice(None), height=12)
    change(project, train={"orientations": 8})
    status, said, errors = spacewarps_here(project, command)
    assert (status, said) == (2, "")
    assert errors == (
        f"spacewarps {command}: train.orientations is 8, which needs square stamps, but these are 12 x 16\n"
    )
    assert not (project.folder / ".spacewarps/journal").exists()


@pytest.mark.parametrize(
    ("folds", "of_search", "train", "told"),
    [
        (
            20,
            1,
            {"data": "folds", "folds": 5},
            "crossvalidate.folds is 20: class 'STAR' has 19 source(s) to learn from, too few for 20 folds; have fewer "
            "folds, add sources or leave the class out",
        ),
        (
            3,
            13,
            {"data": "train"},
            "crossvalidate.folds is 3, search.folds is 13: within outer fold 2 of seed 1, class 'STAR' has 12 "
            "source(s) to learn from, too few for 13 folds; have fewer folds, add sources or leave the class out",
        ),
        (
            3,
            1,
            {"data": "folds", "folds": 13},
            "crossvalidate.folds is 3, search.folds is 1, train.folds is 13: within outer fold 2 of seed 1, class "
            "'STAR' has 12 source(s) to learn from, too few for 13 folds; have fewer folds, add sources or leave the "
            "class out",
        ),
    ],
)
def test_every_deal_is_checked_before_the_first_fold(
    project: Project, spacewarps_here: SpacewarpsHere, folds: int, of_search: int, train: dict[str, Any], told: str
) -> None:
    # One source of the last class is gone, so that not every outer fold has as many.
    change_survey(project, slice(0, -2), height=16)
    change(
        project,
        crossvalidate={"folds": folds},
        search={"folds": of_search, "decides": "loss"},
        train={**train, "start": "fresh"},
    )
    status, said, errors = spacewarps_here(project, "crossvalidate")
    assert (status, said) == (2, "")
    assert errors == f"spacewarps crossvalidate: {told}\n"
    assert not (project.folder / ".spacewarps/journal").exists()


@pytest.mark.parametrize("command", ["search", "plan"])
@pytest.mark.parametrize("section", ["search", "train"])
def test_folds_that_cannot_be_dealt_are_named_before_the_search(
    project: Project, spacewarps_here: SpacewarpsHere, command: str, section: str
) -> None:
    change(project, search={"decides": "loss"}, train={"data": "folds", "start": "fresh"})
    change(project, **{section: {"folds": 32}})
    status, said, errors = spacewarps_here(project, command)
    assert (status, said) == (2, "")
    assert errors.startswith(f"spacewarps {command}: {section}.folds is 32: class ")
    assert errors.count("\n") == 1
    assert not (project.folder / ".spacewarps/journal").exists()
