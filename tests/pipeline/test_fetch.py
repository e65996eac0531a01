import csv
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.archives.archive import SIDE, Archive, Request, by_id, running, stamp
from tests.pipeline.conftest import SpacewarpsHere, project_on
from tests.pipeline.project import Project, wait_until_nothing_runs

IDS = [f"J{number:02d}" for number in range(12)]


@pytest.fixture
def archive() -> Iterator[Archive]:
    with running() as archive:
        archive.behave = lambda request: request.answer(stamp(seed=sum(request.asked["id"].encode())))
        yield archive


def set_up(project: Project, archive: Archive, **how: Any) -> None:
    """Let the project fetch from the archive."""
    (project.folder / "mine").mkdir(exist_ok=True)
    lines = [f"{key},{10 + number / 10},-5.5" for number, key in enumerate(IDS)]
    (project.folder / "mine/catalog.csv").write_text("\n".join(["name,ra,dec", *lines, "J12,,-5.5", "a/b,1,2"]) + "\n")
    params = project.params()
    params["fetch"] |= {
        "catalog": "mine/catalog.csv",
        "columns": {"id": "name", "ra": "ra", "dec": "dec"},
        "service": "template",
        "template": f"{archive.address}/cut?id={{id}}&ra={{ra}}&dec={{dec}}&size={{size}}",
        "size": SIDE,
        "per_second": 20.0,
        "tries": 1,
        **how,
    }
    project.write_params(params)


@pytest.fixture
def project(prepared_folder: Path, tmp_path: Path, archive: Archive) -> Project:
    project = project_on(prepared_folder, tmp_path / "project")
    set_up(project, archive)
    return project


def table(project: Project, name: str, folder: str = "data/fetched") -> list[dict[str, str]]:
    with (project.folder / folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def own_lines(errors: str) -> list[str]:
    """Return what a command says, without MLflow, which tells of a new database."""
    return [line for line in errors.splitlines() if "INFO mlflow" not in line]


def files(project: Project) -> list[str]:
    return sorted(path.name for path in (project.folder / "data/fetched/images").iterdir())


def test_a_catalogue_gets_its_stamps_and_a_list_of_the_rows_without(
    project: Project, archive: Archive, spacewarps_here: SpacewarpsHere
) -> None:
    archive.behave = by_id(lambda request: request.answer(stamp()), J03=lambda request: request.answer(b"", 404))
    status, said, errors = spacewarps_here(project, "fetch")
    assert (status, own_lines(errors)) == (0, [])
    have = [key for key in IDS if key != "J03"]
    assert files(project) == [f"{key}.fits" for key in have]
    assert [row["id"] for row in table(project, "stamps.csv")] == have
    assert table(project, "left_out.csv") == [
        {"row": "a/b", "reason": "id that is not a file name"},
        {"row": "J03", "reason": "no image there (status 404)"},
        {"row": "catalog.csv:14 (J12)", "reason": "no usable position"},
    ]
    assert "data/fetched/images: 11 stamps; 12 of 13 targets were asked for" in said
    assert "3 rows lack stamps, see data/fetched/left_out.csv: id that is not a file name (1), " in said
    assert not (project.folder / ".spacewarps/journal/stamps").exists()
    # The same again asks for what there was no image of, and comes to the same bytes.
    before = {path: path.read_bytes() for path in (project.folder / "data/fetched").rglob("*") if path.is_file()}
    archive.requests.clear()
    assert spacewarps_here(project, "fetch")[0] == 0
    assert archive.ids() == ["J03"]
    assert before == {path: path.read_bytes() for path in before}


def test_ids_that_a_spreadsheet_would_run_are_written_as_text_and_known_again(
    project: Project, archive: Archive, spacewarps_here: SpacewarpsHere
) -> None:
    with (project.folder / "mine/catalog.csv").open("a") as file:
        file.write("=1+1,60,5\n'=1+1,61,5\n@a/b,62,5\n")
    assert spacewarps_here(project, "fetch")[0] == 0
    first = table(project, "stamps.csv")[:2]
    assert [(row["id"], row["file"]) for row in first] == [("''=1+1", "''=1+1.fits"), ("'=1+1", "'=1+1.fits")]
    assert {"=1+1.fits", "'=1+1.fits"} <= {*files(project)}
    assert {"row": "'@a/b", "reason": "id that is not a file name"} in table(project, "left_out.csv")
    archive.requests.clear()
    assert spacewarps_here(project, "fetch")[0] == 0
    assert archive.ids() == []


def test_the_survey_reads_what_was_fetched(project: Project, archive: Archive, spacewarps_here: SpacewarpsHere) -> None:
    assert spacewarps_here(project, "fetch")[0] == 0
    lines = [f"{key},{'AB'[number % 2]},{number},5" for number, key in enumerate(IDS)]
    (project.folder / "mine/classes.csv").write_text("\n".join(["id,class,ra,dec", *lines]) + "\n")
    params = project.params()
    params["paths"]["prepared"] = "data/mine"
    params["data"] |= {"catalog": "mine/classes.csv", "images": "data/fetched/images", "features": []}
    project.write_params(params)
    status, _, errors = spacewarps_here(project, "prepare")
    assert (status, own_lines(errors)) == (0, [])
    assert len(archive.requests) == 12


def test_a_temporary_copy_of_the_project_asks_for_nothing_that_the_project_has(
    project: Project,
    archive: Archive,
    spacewarps_here: SpacewarpsHere,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert spacewarps_here(project, "fetch")[0] == 0
    copy = project.copy(tmp_path / "copy")
    shutil.rmtree(copy.folder / "data/fetched")
    archive.requests.clear()
    # As DVC says where the project is.
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    assert spacewarps_here(copy, "fetch")[0] == 0
    assert (files(copy), archive.requests) == (files(project), [])


@pytest.mark.long
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_run_that_ends_half_way_goes_on_where_it_was(project: Project, archive: Archive, how: str) -> None:
    good = archive.behave

    def hang_from_the_sixth_on(request: Request) -> None:
        if request.asked["id"] not in archive.ids()[:5]:
            time.sleep(90)
        good(request)

    archive.behave = hang_from_the_sixth_on
    store = project.folder / ".spacewarps/journal/stamps"
    with project.start("spacewarps.cli", "fetch") as process:
        while len(archive.requests) < 7 or len([*store.glob("*.json")]) < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
        # It does not wait for the archive.
        _, errors = process.communicate(timeout=60)
    if how == "interrupt":
        assert (process.returncode, len(own_lines(errors))) == (130, 1)
        assert "interrupted" in errors
        assert "goes on from the finished stamps that are in the journal" in errors
    wait_until_nothing_runs(process.pid)
    assert not (project.folder / "data/fetched").exists()
    asked = archive.ids()
    archive.requests.clear()
    archive.behave = good
    assert project.spacewarps("fetch").returncode == 0
    assert sorted(archive.ids()) == sorted({*IDS} - {*asked[:5]})
    assert len(files(project)) == 12


def test_too_many_that_were_given_up_leave_what_was_there_and_are_asked_for_again(
    project: Project, archive: Archive, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(project, "fetch")[0] == 0
    before = table(project, "stamps.csv")
    set_up(project, archive, size=8)
    archive.behave = by_id(
        lambda request: request.answer(stamp(side=8)),
        J03=lambda request: request.answer(b"", 500),
        J04=lambda request: request.answer(b"<html>", 200),
    )
    status, _, errors = spacewarps_here(project, "fetch")
    assert (status, len(own_lines(errors))) == (2, 1)
    assert own_lines(errors)[0].startswith(
        "spacewarps fetch: mine/catalog.csv: 2 of 13 targets were given up, more than fetch.max_failed_fraction allows"
    )
    listed = table(project, "left_out.csv", ".spacewarps/journal/stamps")
    assert {"row": "J03", "reason": "status 500"} in listed
    assert "127.0.0.1" not in errors
    assert table(project, "stamps.csv") == before
    archive.requests.clear()
    archive.behave = lambda request: request.answer(stamp(side=8))
    assert spacewarps_here(project, "fetch")[0] == 0
    assert sorted(archive.ids()) == ["J03", "J04"]
    assert len(table(project, "stamps.csv")) == 12


def test_an_archive_without_any_of_the_targets_is_an_error(
    project: Project, archive: Archive, spacewarps_here: SpacewarpsHere
) -> None:
    archive.behave = lambda request: request.answer(b"", 404)
    status, _, errors = spacewarps_here(project, "fetch")
    assert (status, len(own_lines(errors))) == (2, 1)
    assert "none of 13 targets has a stamp (most often: no image there (status 404)); " in errors


def test_an_archive_that_nobody_named_is_not_asked(
    project: Project, archive: Archive, spacewarps_here: SpacewarpsHere
) -> None:
    set_up(project, archive, service="none", template=None)
    status, _, errors = spacewarps_here(project, "fetch")
    assert (status, len(own_lines(errors))) == (2, 1)
    assert "fetch.service names no archive; set it to panstarrs, sdss, legacysurvey, or template" in errors
    set_up(project, archive)
    (project.folder / "data/fetched").mkdir(parents=True)
    (project.folder / "data/fetched/mine.txt").touch()
    assert "it holds 'mine.txt'" in spacewarps_here(project, "fetch")[2]
    assert archive.requests == []


@pytest.mark.long
def test_dvc_runs_the_stage_when_it_is_told_to_and_checks_out_without_it(
    make_project: Any, archive: Archive, tmp_path: Path
) -> None:
    project = make_project()
    # A clone where nothing was fetched yet has nothing to miss.
    set_up(project, archive)
    project.commit("Fetch")
    assert "fetched" not in project.dvc("checkout", check=False).stderr
    project.run(*project.make_command("fetch"))
    assert len(files(project)) == 12
    assert len(archive.requests) == 12
    (run,) = [run for run in project.runs() if run.info.run_name == "fetch"]
    assert run.data.metrics["stamps"] == 12
    lock = yaml.safe_load((project.folder / "fetching/dvc.lock").read_text())
    assert [out["path"] for out in lock["stages"]["fetch"]["outs"]] == ["data/fetched"]
    assert "didn't change, skipping" in project.dvc("repro", "fetching/dvc.yaml").stdout
    # How it is asked is no part of what is asked for.
    set_up(project, archive, per_second=10.0, tries=2)
    assert "didn't change, skipping" in project.dvc("repro", "fetching/dvc.yaml").stdout
    # What a row more needs is all that is asked for.
    with (project.folder / "mine/catalog.csv").open("a") as catalog:
        catalog.write("new,7,7\n")
    archive.requests.clear()
    project.dvc("repro", "fetching/dvc.yaml")
    assert archive.ids() == ["new"]
    assert len(files(project)) == 13
    project.commit("Fetched")
    assert project.git("status", "--short") == ""
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    for command in (("checkout",), ("status", "fetching/dvc.yaml")):
        done = clone.dvc(*command, check=False)
        assert "data/fetched" not in done.stderr, (command, done.stderr)
