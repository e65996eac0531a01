"""Where candidates are pushed to and pulled from: what an address may be, and what is said where it leads nowhere."""

import hashlib
import logging
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dvc.config import Config
from dvc.fs import FileSystem, get_cloud_fs
from dvc.repo import Repo

from spacewarps.commands import remote_entries
from spacewarps.search.candidate import Checkpoint
from spacewarps.search.journal import FolderJournal
from spacewarps.training.compute import Compute
from tests.pipeline.conftest import SpacewarpsHere, without_keys
from tests.pipeline.project import ROOT, Project
from tests.search.checkpoints import HALF, WHOLE, evaluation_on

KEYS = {"access_key_id": "the-key-of-mine", "secret_access_key": "a word of mine"}


@pytest.fixture
def project(tmp_path: Path, compute: Compute) -> Project:
    """A project under DVC that holds no more than params, and one candidate."""
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    shutil.copy(ROOT / "params.yaml", project.folder)
    Repo.init(str(project.folder), no_scm=True).close()
    write(project, compute, one=WHOLE)
    return project


def write(project: Project, compute: Compute, **checkpoints: Checkpoint) -> None:
    with closing(FolderJournal(project.folder / ".spacewarps/journal")) as journal:
        for name, checkpoint in checkpoints.items():
            journal.write(key(name), evaluation_on(compute), checkpoint)


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def add_remote(project: Project, name: str, url: str, **settings: str) -> None:
    with Config(str(project.folder / ".dvc")).edit() as config:
        config["remote"][name] = {"url": url, **settings}


@pytest.mark.parametrize(
    ("place", "below"),
    [
        ("remote://lab", "remote/candidates"),
        ("remote://LAB/", "remote/candidates"),
        ("remote://lab/of/mine", "remote/of/mine"),
        ("file://{folder}/pool", "pool"),
    ],
)
def test_a_folder_may_have_an_address(
    project: Project, tmp_path: Path, spacewarps_here: SpacewarpsHere, place: str, below: str
) -> None:
    add_remote(project, "lab", str(tmp_path / "remote"))
    entries, place = project.entries(), place.format(folder=tmp_path)
    pushed = (0, f"1 entries copied to {tmp_path / below}, 0 known there already\n", "")
    assert spacewarps_here(project, "journal", "push", place) == pushed
    assert {path.name: path.read_bytes() for path in (tmp_path / below).iterdir()} == entries
    shutil.rmtree(project.folder / ".spacewarps")
    status, said, errors = spacewarps_here(project, "journal", "pull", place)
    assert (status, errors) == (0, "")
    assert said == f"1 entries copied to {project.folder / '.spacewarps/journal'}, 0 known there already\n"
    assert project.entries() == entries


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("remote://labs", "DVC has no remote 'labs' here; there are cloud, lab, web (`dvc remote list`)"),
        ("remote://", "DVC has no remote '' here"),
        ("remote://cloud", "remote://cloud: gs is supported, but requires 'dvc-gs' to be installed"),
        ("ssh://me:word@machine/pool", "ssh://me:***@machine/pool: ssh is supported, but requires 'dvc-ssh'"),
        ("remote://web", "what is at an address of http:// cannot be listed"),
        ("made-up://bucket/pool", "Unsupported URL type made-up://"),
        ("s3:/bucket/pool", "an address has two slashes, as in s3://BUCKET/PATH"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_in_one_line(
    project: Project, tmp_path: Path, spacewarps_here: SpacewarpsHere, place: str, told: str
) -> None:
    for name, url in (("lab", str(tmp_path)), ("web", "http://127.0.0.1:9/pool"), ("cloud", "gs://bucket/pool")):
        add_remote(project, name, url)
    for action in ("push", "pull"):
        status, said, errors = spacewarps_here(project, "journal", action, place)
        assert (status, said, errors.count("\n")) == (2, "", 1)
        assert told in errors
        assert "word" not in errors


def test_without_the_extra_for_s3_it_is_named(
    project: Project, spacewarps_here: SpacewarpsHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dvc_s3", None)
    add_remote(project, "lab", "s3://bucket/pool")
    for place in ("remote://lab", "s3://bucket/pool"):
        status, _, errors = spacewarps_here(project, "journal", "push", place)
        assert (status, errors.count("\n")) == (2, 1)
        assert f"{place}: the extra `s3` is not installed (dvc_s3): pip install 'spacewarps[s3]'" in errors


def test_a_remote_is_one_of_a_project_of_dvc(project: Project, spacewarps_here: SpacewarpsHere) -> None:
    assert "there is none (`dvc remote list`)" in spacewarps_here(project, "journal", "push", "remote://lab")[2]
    (project.folder / ".dvc/config").write_text("[core")
    assert "remote://lab: DVC cannot use it (" in spacewarps_here(project, "journal", "push", "remote://lab")[2]
    shutil.rmtree(project.folder / ".dvc")
    status, _, errors = spacewarps_here(project, "journal", "push", "remote://lab")
    assert (status, errors.count("\n")) == (2, 1)
    assert "remote://lab: this folder is in no DVC project" in errors


def test_a_remote_that_is_this_journal_or_holds_nothing_is_refused(
    project: Project, spacewarps_here: SpacewarpsHere
) -> None:
    add_remote(project, "lab", str(project.folder / ".spacewarps"))
    for place, told in (
        ("remote://lab/journal", "this project's own journal"),
        ("remote://lab", "no journal is there, or an empty one; name the place that entries were pushed to"),
    ):
        status, _, errors = spacewarps_here(project, "journal", "pull", place)
        assert (status, errors.count("\n")) == (2, 1)
        assert told in errors


@pytest.fixture
def on_s3(project: Project, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project with a remote ``lab`` on S3."""
    without_keys(tmp_path, monkeypatch)
    add_remote(project, "lab", "s3://survey/demo/", endpointurl=bucket, **KEYS)
    return project


def objects(bucket: str) -> FileSystem:
    kind, settings, _ = get_cloud_fs({}, url="s3://survey", endpointurl=bucket, **KEYS)
    return kind(**settings)


def place_of(name: str) -> str:
    return f"survey/demo/candidates/{key(name)}.candidate"


@pytest.mark.long
def test_on_s3_only_what_is_missing_damaged_or_less_far_is_moved(
    on_s3: Project, bucket: str, compute: Compute, spacewarps_here: SpacewarpsHere, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="werkzeug")
    write(on_s3, compute, two=HALF, three=WHOLE)
    there = objects(bucket)

    def journal(action: str) -> str:
        caplog.clear()
        status, said, errors = spacewarps_here(on_s3, "journal", action, "remote://lab")
        assert (status, errors) == (0, "")
        return said

    def requests(method: str) -> list[str]:
        """Return the status of each request for an entry."""
        lines = [line for line in caplog.messages if f"{method} /" in line and ".candidate" in line]
        return [line.split('" ')[1].split()[0] for line in lines]

    assert journal("push") == "3 entries copied to remote://lab, 0 known there already\n"
    assert (requests("GET"), requests("PUT")) == ([], ["200"] * 3)
    half, entries = there.cat_file(place_of("two")), on_s3.entries()
    # Parts of them, that is.
    for action in ("push", "pull"):
        assert journal(action).endswith(", 3 known there already\n")
        assert (requests("GET"), requests("PUT")) == (["206"] * 3, [])
    write(on_s3, compute, two=WHOLE)
    there.pipe_file(place_of("three"), entries[f"{key('three')}.candidate"][:-1])
    assert journal("pull").endswith(
        "0 entries copied to " + str(on_s3.folder / ".spacewarps/journal") + ", 2 known there already, "
        "1 damaged and left out\n"
    )
    assert journal("push") == "2 entries copied to remote://lab, 1 known there already\n"
    assert (requests("GET"), requests("PUT")) == (["206"] * 3, ["200"] * 2)
    assert there.cat_file(place_of("two")) != half
    for name in ("one", "two", "three"):
        assert there.cat_file(place_of(name)) == on_s3.entries()[f"{key(name)}.candidate"]
    further = on_s3.entries()
    (on_s3.folder / f".spacewarps/journal/{key('one')}.candidate").unlink()
    write(on_s3, compute, two=HALF)
    assert journal("pull").startswith("2 entries copied to ")
    assert sorted(requests("GET")) == ["200"] * 2 + ["206"] * 2
    assert on_s3.entries() == further
    there.pipe_file(place_of("four"), b"<html>")
    altered = bytearray(further[f"{key('one')}.candidate"])
    altered[-1] ^= 1
    there.pipe_file(place_of("one"), bytes(altered))
    shutil.rmtree(on_s3.folder / ".spacewarps")
    assert "2 entries copied to " in (said := journal("pull"))
    assert said.endswith("2 damaged and left out\n")
    assert on_s3.entries() == {name: further[name] for name in on_s3.entries()}


@pytest.mark.long
def test_an_address_on_s3_is_read_with_the_usual_keys(
    project: Project, bucket: str, tmp_path: Path, spacewarps_here: SpacewarpsHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_access_key"])
    # No project of DVC is needed for it.
    shutil.rmtree(project.folder / ".dvc")
    entries = project.entries()
    for place in ("s3://survey", "s3://survey/of/mine/"):
        assert spacewarps_here(project, "journal", "pull", place)[0] == 2
        pushed = spacewarps_here(project, "journal", "push", place)
        assert pushed == (0, f"1 entries copied to {place}, 0 known there already\n", "")
    shutil.rmtree(project.folder / ".spacewarps")
    assert spacewarps_here(project, "journal", "pull", "s3://survey/of/mine")[0] == 0
    assert project.entries() == entries


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.long
@pytest.mark.parametrize("action", ["push", "pull"])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no such bucket", "The specified bucket does not exist"),
        ("no keys", "Unable to locate credentials"),
        ("wrong keys", "The AWS Access Key Id you provided does not exist in our records"),
        ("nobody there", "Could not connect to the endpoint URL"),
        ("no answer", "no answer in time"),
    ],
)
def test_an_s3_that_takes_and_gives_nothing_is_told_in_one_line(
    on_s3: Project,
    bucket: str,
    silent: str,
    spacewarps_here: SpacewarpsHere,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    fault: str,
    why: str,
) -> None:
    address, place, keys = bucket, "s3://survey/demo", KEYS
    match fault:
        case "no such bucket":
            place = "s3://nowhere/demo"
        case "no keys":
            keys = {}
        case "wrong keys":
            headers = {"Content-Type": "text/plain"}
            urllib.request.urlopen(urllib.request.Request(f"{bucket}/moto-api/reset-auth", b"0", headers)).close()
        case "nobody there":
            address = "http://127.0.0.1:9"
        case "no answer":
            address = silent
            monkeypatch.setattr(remote_entries, "_SECONDS", 3.0)
    add_remote(on_s3, "lab", place, endpointurl=address, **keys)
    before, start = on_s3.entries(), time.monotonic()
    try:
        status, said, errors = spacewarps_here(on_s3, "journal", action, "remote://lab")
    finally:
        if fault == "wrong keys":
            urllib.request.urlopen(
                urllib.request.Request(f"{bucket}/moto-api/reset-auth", b"inf", {"Content-Type": "text/plain"})
            ).close()
    assert (status, said, errors.count("\n")) == (2, "", 1)
    assert f"remote://lab cannot be used ({why}" in errors
    assert not any(word in errors for word in KEYS.values())
    assert time.monotonic() - start < 60
    assert on_s3.entries() == before
