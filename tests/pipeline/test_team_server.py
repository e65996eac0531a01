"""The pipeline on a server as a team runs it: PostgreSQL, artifacts in S3, and nobody without a password."""

import base64
import json
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Experiment, Run
from mlflow.tracking import MlflowClient

from spacewarps.errors import SpaceWarpsError
from spacewarps.processes import has_ended
from spacewarps.tracking.notes import OWNER_TAG, PARENT_TAG, PIPELINE_TAG, RUN_TAG
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

LINES = 3
# What no two runs have in common: ids, times, and the process that wrote them.
OF_ONE_RUN = {PARENT_TAG, RUN_TAG, OWNER_TAG, PIPELINE_TAG}
OF_ONE_CLOCK = {"seconds", "search_seconds", "logging_share"}
OF_ONE_MODEL = (
    *("artifact_path:", "model_id:", "model_uuid:", "run_id:", "utc_time_created:"),
    # Where it was saved.
    *("model_code_path:", "uri: file:"),
)


class Team:
    """`make team-server` on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "spacewarps.team", "--port", str(self.port), "--folder", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Where nothing but the server's own end ends it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        lines = [self._process.stdout.readline() for _ in range(LINES)]
        assert all(lines), (lines, self.logs())
        self.said += "".join(lines)

    def stop(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=120)
        self.said += rest
        return self._process.returncode

    def parts(self) -> list[str]:
        names: list[str] = json.loads((self.folder / "processes.json").read_text())
        return names

    def logs(self) -> str:
        return "".join(log.read_text() for log in (self.folder / "mlflow.log", self.folder / "postgres/log"))

    def variables(self) -> dict[str, str]:
        """Return what is in the environment of a shell that was pointed at it as it says."""
        point = self.said.splitlines()[1].partition("shell: ")[2]
        assert shlex.split(point)[0] == "."
        done = subprocess.run(["sh", "-c", f"{point} && env -0"], capture_output=True, text=True, check=True)
        variables = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
        return {name: value for name, value in variables.items() if name.startswith("MLFLOW_TRACKING_")}

    def secrets(self) -> dict[str, str]:
        """Return all that nobody else may know, by what it is, also as a header of HTTP has it."""
        found: dict[str, str] = json.loads((self.folder / "secrets/credentials.json").read_text())
        header = base64.b64encode(f"{found['user']}:{found['password']}".encode()).decode()
        return {**found, "header": header}


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    for module in ("psycopg", "flask_wtf", "moto.server", "boto3"):
        pytest.importorskip(module)
    from spacewarps.team.postgres import programs

    try:
        programs()
    except SpaceWarpsError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="team") as place:
        # Started by root, PostgreSQL runs as another user, who has to get there.
        Path(place).chmod(0o711)
        team = Team(Path(place) / "team")
        team.start()
        yield team
        assert team.stop(signal.SIGTERM) == 0
        assert all(has_ended(name) for name in team.parts())


@pytest.fixture(scope="module")
def tracked(finished: Project, team: Team, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The project of `finished` before its run, which has run on the server; and what it said."""
    project = finished.copy(tmp_path_factory.mktemp("tracked") / "project")
    # Nothing is known beforehand, of candidates or of stages.
    project.git("reset", "--quiet", "--hard", "HEAD~")
    for name in (".spacewarps", "mlflow.db", "mlartifacts"):
        project.run("rm", "-r", name)
    project.variables = team.variables()
    done = project.dvc("repro", "--force")
    # Where the machine is busy, the last stage does not wait for all of it.
    late = project.spacewarps("sync")
    assert late.returncode == 0, late.stderr
    return project, "".join(each.stdout + each.stderr for each in (done, late))


@pytest.fixture
def client(team: Team, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in team.variables().items():
        monkeypatch.setenv(name, value)
    return MlflowClient(team.variables()["MLFLOW_TRACKING_URI"])


def experiment_of(client: MlflowClient) -> Experiment:
    experiment = client.get_experiment_by_name("space-warps")
    assert experiment is not None
    return experiment


def runs_of(client: MlflowClient) -> list[Run]:
    return list(client.search_runs([experiment_of(client).experiment_id], max_results=1000))


def tree_of(client: MlflowClient, folder: Path) -> list[dict[str, Any]]:
    """Return all runs as a tree, each with what does not depend on when and where it ran."""
    runs = runs_of(client)
    models = client.search_logged_models([experiment_of(client).experiment_id])

    def files_of(name: str, **what: str) -> dict[str, bytes]:
        place = folder / name
        place.mkdir(parents=True)
        mlflow.artifacts.download_artifacts(dst_path=str(place), tracking_uri=client.tracking_uri, **what)
        files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for path in files:
            if path == "run.json":
                # When and where, and the hashes of what is compared here, too.
                files[path] = b""
            if path.endswith("MLmodel"):
                lines = files[path].decode().splitlines()
                files[path] = "\n".join(line for line in lines if not line.strip().startswith(OF_ONE_MODEL)).encode()
        return files

    def below(parent: str | None) -> list[dict[str, Any]]:
        children = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent]
        return [told_of(run) for run in sorted(children, key=lambda run: (run.info.run_name, run.info.start_time))]

    def told_of(run: Run) -> dict[str, Any]:
        number = run.info.run_id
        used = run.inputs.dataset_inputs if run.inputs else []
        return {
            "name": run.info.run_name,
            "status": run.info.status,
            "params": run.data.params,
            # The description of a run shows a picture of its own, by its id.
            "tags": {
                name: value.replace(run.info.run_id, "ID")
                for name, value in run.data.tags.items()
                if name not in OF_ONE_RUN
            },
            "metrics": {
                name: [(point.step, point.value) for point in client.get_metric_history(number, name)]
                for name in run.data.metrics
                if name.rpartition(".")[2] not in OF_ONE_CLOCK
            },
            "data": [(dict(each.dataset), [(tag.key, tag.value) for tag in each.tags]) for each in used],
            "artifacts": files_of(number, run_id=number) if client.list_artifacts(number) else {},
            "models": [
                (
                    model.name,
                    str(model.status),
                    model.tags,
                    files_of(model.model_id, artifact_uri=model.artifact_location),
                )
                for model in models
                if model.source_run_id == number
            ],
            "below": below(number),
        }

    return below(None)


def test_the_server_has_the_same_tree_and_artifacts_as_a_folder(
    finished: Project, tracked: tuple[Project, str], client: MlflowClient, tmp_path: Path
) -> None:
    project, _ = tracked
    assert (project.folder / "dvc.lock").read_bytes() == (finished.folder / "dvc.lock").read_bytes()
    assert not (project.folder / "mlflow.db").exists()
    there = tree_of(client, tmp_path / "there")
    here = tree_of(MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}"), tmp_path / "here")
    assert there == here
    (pipeline,) = there
    assert [stage["name"] for stage in pipeline["below"]] == ["evaluate", "prepare", "search", "simulate", "train"]
    assert [run.info.status for run in runs_of(client)] == ["FINISHED"] * len(runs_of(client))
    assert experiment_of(client).artifact_location.startswith("mlflow-artifacts:/")


def test_no_password_or_key_is_in_any_log_run_or_file(
    tracked: tuple[Project, str], team: Team, client: MlflowClient, tmp_path: Path
) -> None:
    project, said = tracked
    runs = [run.to_dictionary() for run in runs_of(client)]
    tree = repr((tree_of(client, tmp_path), runs, dict(experiment_of(client))))
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    places = {
        "what the stages said": said.encode(),
        "what the server said": team.said.encode(),
        "the runs": tree.encode(),
        "git's objects": subprocess.run(
            ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=project.folder, capture_output=True, check=True
        ).stdout,
        **{str(path): path.read_bytes() for path in [*files, *(p for p in tmp_path.rglob("*") if p.is_file())]},
    }
    secrets = team.secrets()
    assert len(secrets) == 7
    assert len(files) > 100
    found = [
        (what, where) for where, content in places.items() for what, word in secrets.items() if word.encode() in content
    ]
    assert found == []
    # MLflow's own log names the user that it has made, and no more.
    del secrets["user"]
    servers = [path for path in team.folder.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    # Which key signed a request, S3 would keep, too: here it is all that is asked for, so nobody may see it.
    found = [
        (what, str(path)) for path in servers for what, word in secrets.items() if word.encode() in path.read_bytes()
    ]
    assert found == []
    running = subprocess.run(["ps", "-A", "-o", "args", "-ww"], capture_output=True, text=True, check=True).stdout
    assert f"--port {team.port}" in running
    assert [what for what, word in secrets.items() if word in running] == []


@pytest.mark.parametrize("way", ["variables", "address"])
def test_a_wrong_password_ends_a_stage_in_one_line_that_does_not_show_it(
    tracked: tuple[Project, str], team: Team, way: str
) -> None:
    project = tracked[0].at(tracked[0].folder)
    variables = team.variables()
    if way == "variables":
        project.variables = variables | {"MLFLOW_TRACKING_PASSWORD": "a-wrong-word"}
    else:
        named = variables["MLFLOW_TRACKING_URI"].replace(
            "//", f"//{variables['MLFLOW_TRACKING_USERNAME']}:a-wrong-word@"
        )
        project.variables = {"MLFLOW_TRACKING_URI": named}
    done = project.spacewarps("prepare")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert "this user is not known there, or has another password" in done.stderr
    assert "MLFLOW_TRACKING_PASSWORD" in done.stderr
    assert "a-wrong-word" not in done.stdout + done.stderr
    assert not any((project.folder / ".spacewarps/spool").iterdir())


def test_every_member_of_the_team_may_write_beside_the_others(
    tracked: tuple[Project, str], team: Team, client: MlflowClient, tmp_path: Path
) -> None:
    # It imports MLflow's whole server.
    from mlflow.server.auth.client import AuthServiceClient

    accounts = AuthServiceClient(client.tracking_uri)
    accounts.create_user("a-member", "a-long-enough-word")
    project = tracked[0].copy(tmp_path / "project")
    member = {"MLFLOW_TRACKING_USERNAME": "a-member", "MLFLOW_TRACKING_PASSWORD": "a-long-enough-word"}
    project.variables = team.variables() | member
    before = {run.info.run_id for run in runs_of(client)}
    done, late = project.spacewarps("prepare"), project.spacewarps("sync")
    assert (done.returncode, done.stderr, late.returncode, late.stderr) == (0, "", 0, "")
    added = [run for run in runs_of(client) if run.info.run_id not in before]
    assert sorted(run.info.run_name.split()[0] for run in added) == ["pipeline", "prepare"]
    assert {run.info.status for run in added} == {"FINISHED"}
    for run in added:
        client.delete_run(run.info.run_id)
    accounts.delete_user("a-member")


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.kills), signal.SIGKILL]
)
def test_it_ends_with_all_its_parts_and_starts_again_over_the_same_data(
    team: Team, client: MlflowClient, tmp_path: Path, number: signal.Signals
) -> None:
    before, variables = tree_of(client, tmp_path / "before"), team.variables()
    parts = team.parts()
    assert [has_ended(name) for name in parts] == [False, False]
    try:
        assert team.stop(number) == (-number if number == signal.SIGKILL else 0)
        # What it could not end itself, the next one does.
        assert [has_ended(name) for name in parts] == [number != signal.SIGKILL] * 2
    finally:
        team.start()
    assert [has_ended(name) for name in parts] == [True, True]
    assert team.variables() == variables
    assert tree_of(client, tmp_path / "after") == before
