"""A search that tells a tracking server of its candidates, which is killed half-way."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from spacewarps.tracking.waiting import SPOOL
from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project
from tests.tracking.servers import Line, Server, wait_for_senders

pytestmark = pytest.mark.long


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


def outputs_of(project: Project) -> dict[str, bytes]:
    places = [project.folder / "models/search", project.folder / "reports"]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return {str(file.relative_to(project.folder)): file.read_bytes() for file in files}


def test_a_search_whose_server_is_killed_has_the_same_bytes_and_tells_it_later(
    on_prepared: Project,
    server: Server,
    tmp_path: Path,
    spacewarps_here: SpacewarpsHere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = on_prepared.params()
    params["search"] |= {"max_layers": 2, "k_candidates": [3, 4, 5]}
    on_prepared.write_params(params)
    other = on_prepared.copy(tmp_path / "other")
    assert spacewarps_here(on_prepared, "search")[0] == 0

    line = Line(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.address)

    def kill_in_the_second_step(count: int) -> None:
        if count == 25:
            server.kill()
            line.allowed = 0

    line.heard = kill_in_the_second_step
    status, said, errors = spacewarps_here(other, "search")
    assert (status, errors) == (0, "")
    assert "spacewarps sync" in said
    assert outputs_of(other) == outputs_of(on_prepared)
    line.heard = lambda _count: None
    wait_for_senders()

    status, _, errors = spacewarps_here(other, "sync")
    assert (status, errors.count("\n")) == (2, 1)
    server.start()
    line.allowed = sys.maxsize
    before = time.time() * 1000
    assert spacewarps_here(other, "sync")[0] == 0
    client = MlflowClient(server.address)
    experiment = client.get_experiment_by_name("space-warps")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    names = sorted(run.info.run_name.removesuffix(", joined") for run in runs)
    steps = [name for name in names if name.startswith("step")]
    assert names == sorted(["pipeline", "search", *steps, *(["conv k=3", "conv k=4", "conv k=5"] * len(steps))])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.info.start_time <= run.info.end_time < before for run in runs)
    assert not list((other.folder / SPOOL).iterdir())
    line.close()
