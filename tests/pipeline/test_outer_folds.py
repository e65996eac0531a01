import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import ROOT, TINY, Project

KEPT = ".spacewarps/journal/crossvalidation"


@pytest.fixture
def project(prepared_folder: Path, tmp_path: Path) -> Project:
    """A project that holds no more than params and a small prepared survey."""
    project = Project(tmp_path / "project")
    shutil.copytree(prepared_folder, project.folder / "data/prepared")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TINY.items():
        params[section] |= values
    params["search"] |= {"max_layers": 1, "k_candidates": [3]}
    params["train"] |= {"epochs": 1}
    params["crossvalidate"] = {"folds": 2, "repeats": 1}
    project.write_params(params)
    return project


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


def test_a_folder_in_the_place_of_a_kept_fold_costs_that_fold_again_and_nothing_else(
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
