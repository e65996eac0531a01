import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spacewarps.errors import ModelError
from spacewarps.model.settings import BlockSpec
from spacewarps.model.storage import pack_model
from spacewarps.search.candidate import Checkpoint, EpochEnded, Evaluation, Trained
from spacewarps.search.executors.base import Event, ExecutorError, Lost
from spacewarps.search.folds import Fold
from spacewarps.search.history import Candidate
from spacewarps.search.journal import FolderJournal
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import SearchResult
from spacewarps.search.settings import CandidateSettings
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import Compute, kind_of_machine, set_up_compute
from spacewarps.training.score import Epoch, Score
from spacewarps.training.settings import ComputeSettings

ray = pytest.importorskip("ray")

from spacewarps import clusters  # noqa: E402 - not without Ray
from spacewarps.clusters import room  # noqa: E402 - not without Ray
from spacewarps.search.executors.ray_cluster import RayExecutor, sum_batches  # noqa: E402 - not without Ray

# A cluster takes ten seconds to start, and the memory of many workers.
pytestmark = pytest.mark.long

Search = Callable[..., SearchResult]
Connect = Callable[..., RayExecutor]

SECONDS_TO_END = 30.0
# What loses its cluster while it starts, Ray's agents and workers alike, looks for it for a minute and more.
SECONDS_WITHOUT_CLUSTER = 150.0


@pytest.fixture(scope="module")
def connect(train_data: Space_Galaxi, validation_data: Space_Galaxi, compute: Compute) -> Connect:
    def connect(address: str, **changes: Any) -> RayExecutor:
        options: dict[str, Any] = {"compute": compute, "workers": None, "gpu_share": 0.0} | changes
        return RayExecutor([Fold(train_data, validation_data)], options.pop("compute"), address=address, **options)

    return connect


@pytest.fixture
def nobody() -> str:
    """Return an address where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def same(one: SearchResult, other: SearchResult) -> bool:
    return one.history == other.history and pack_model(one.model) == pack_model(other.model)


def becomes(holds: Callable[[], bool], seconds: float = SECONDS_TO_END) -> bool:
    """Wait until something holds, but not for long."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
    return holds()


def node(cpus: float = 0, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus, "memory": 1e9}}


@pytest.mark.parametrize(
    ("nodes", "threads", "gpu_share", "jobs"),
    [
        ([], 1, 0.0, 0),
        ([node(4), node(2)], 1, 0.0, 6),
        ([node(4), node(2, alive=False)], 1, 0.0, 4),
        # What is left over on one node and on another is no room for a job.
        ([node(3), node(3)], 2, 0.0, 2),
        ([{"Alive": True, "Resources": {"memory": 1e9}}], 1, 0.0, 0),
        ([node(8, 2)], 1, 1.0, 2),
        ([node(8, 2)], 1, 0.5, 4),
        ([node(8, 2)], 1, 0.3333, 6),
        ([node(8, 2)], 1, 0.4, 4),
        ([node(3, 2)], 1, 0.25, 3),
        ([node(8)], 1, 0.25, 0),
    ],
)
def test_room_is_counted_node_by_node(nodes: list[dict[str, Any]], threads: int, gpu_share: float, jobs: int) -> None:
    assert room(nodes, threads, gpu_share) == jobs


def test_batches_are_summed_and_none_is_forgotten() -> None:
    ended = EpochEnded(0, Epoch(1, 0.5, Score(0.5, 0.5)), Checkpoint((), (), 1, b"", b""))
    events: list[Trained | EpochEnded] = [
        Trained(16),
        Trained(16),
        Trained(4),
        ended,
        Trained(16),
        Trained(4),
        ended,
        ended,
    ]
    assert list(sum_batches(iter(events), 60.0)) == [Trained(36), ended, Trained(20), ended, ended]
    assert list(sum_batches(iter(events), 0.0)) == events


def test_an_address_where_no_cluster_is_is_one_line(
    connect: Connect, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    for address, named in [(nobody, nobody), (f"ray://{nobody}", nobody), ("auto", nobody), ("no address", "format")]:
        start = time.monotonic()
        with connect(address) as executor, pytest.raises(ExecutorError, match=named) as caught:
            executor.submit(1, [])
        assert time.monotonic() - start < 10
        assert "`ray.address`" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not ray.is_initialized()


def test_a_polite_kill_while_ray_starts_is_what_it_was_before() -> None:
    def of_ray(number: int, _frame: object) -> None:
        sys.exit(number)

    def end_while_ray_starts() -> None:
        with clusters.own_signals():
            signal.signal(signal.SIGTERM, of_ray)
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            end_while_ray_starts()
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("trains", ["all", "block"])
def test_what_the_journal_knows_needs_no_cluster(
    search: Search, connect: Connect, nobody: str, tmp_path: Path, trains: str
) -> None:
    first = search(journal=FolderJournal(tmp_path), trains=trains, epochs_per_eval=1)
    with connect(nobody) as executor:
        again = search(journal=FolderJournal(tmp_path), trains=trains, epochs_per_eval=1, executor=executor)
    assert again.evaluated == 0
    assert same(first, again)


@pytest.fixture(scope="class")
def executor(connect: Connect) -> Iterator[RayExecutor]:
    """Return one for several tests, as its cluster takes some seconds to start."""
    before = signal.getsignal(signal.SIGTERM)
    others = set(psutil.Process().children(recursive=True))
    with pytest.MonkeyPatch.context() as patch, connect("local") as executor:
        # Workers on other machines would not inherit it.
        patch.delenv("OMP_WAIT_POLICY", raising=False)
        yield executor
        processes = set(psutil.Process().children(recursive=True)) - others
    _, left = psutil.wait_procs(processes, timeout=SECONDS_TO_END)
    assert processes
    assert left == []
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before


class TestOnThisMachine:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"trains": "block", "k_candidates": [2, 4, 3]}, {"halving": 1, "k_candidates": [2, 4, 3]}],
        ids=["all", "block", "halving"],
    )
    def test_the_result_is_that_of_this_process(
        self, search: Search, executor: RayExecutor, changes: dict[str, Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        learned: dict[str, int] = {"here": 0, "there": 0}

        class Count(SearchObserver):
            def __init__(self, where: str) -> None:
                self.where = where

            def batch_trained(self, samples: int) -> None:
                learned[self.where] += samples

        here = search(observer=Count("here"), **changes)
        there = search(observer=Count("there"), executor=executor, **changes)
        assert same(here, there)
        assert learned["here"] == learned["there"] > 0
        assert capfd.readouterr() == ("", "")

    def test_workers_have_the_code_and_the_stamps_from_the_cluster(
        self, executor: RayExecutor, train_data: Space_Galaxi
    ) -> None:
        @ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
        def look(folds: tuple[Fold, ...]) -> tuple[Any, ...]:
            import spacewarps

            train, validation = folds[0]
            stamps = train.packed
            mapped = not stamps.flags.writeable and type(stamps).__name__ == "ndarray"
            shared = train.packed is validation.packed
            return spacewarps.__file__, mapped, shared, train.fingerprint(), os.environ["OMP_WAIT_POLICY"]

        assert executor.workers >= 1
        code, mapped, shared, fingerprint, policy = ray.get(look.remote(executor._shared))
        assert "runtime_resources" in Path(code).parts
        assert mapped
        assert shared
        assert fingerprint == train_data.fingerprint()
        assert policy == "PASSIVE"

    def test_nobody_else_can_reach_it(self, executor: RayExecutor) -> None:
        assert executor.workers >= 1
        listening = [
            connection.laddr.ip
            for process in psutil.Process().children(recursive=True)
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert {address.rpartition(":")[2] for address in listening} == {"127.0.0.1"}

    def test_what_the_user_can_put_right_arrives_as_it_was_raised(
        self, executor: RayExecutor, compute: Compute
    ) -> None:
        damaged = Evaluation(
            Candidate(1, BlockSpec(2), 3),
            0,
            b"",
            grows="deeper",
            batches=1,
            settings=CandidateSettings(),
            compute=compute,
            until=1,
        )
        executor.submit(7, [damaged])
        with pytest.raises(ModelError) as caught:
            list(executor.wait(60))
        assert type(caught.value) is ModelError
        assert "\n" not in str(caught.value)
        # What failed is over and done with.
        assert list(executor.wait(5.0)) == []

    def test_any_other_error_arrives_with_its_traceback(self, executor: RayExecutor) -> None:
        executor.submit(8, [])
        with pytest.raises(RuntimeError, match=r"(?s)evaluate\(.*IndexError"):
            list(executor.wait(60))

    def test_a_node_of_another_kind_is_refused(self, executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        here = clusters.this_machine(kind_of_machine(executor._compute.device))
        monkeypatch.setattr(executor, "_machine", "an abacus")
        executor.submit(9, [])
        with pytest.raises(ExecutorError, match="an abacus") as caught:
            list(executor.wait(60))
        assert here in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_one_process_has_one_cluster(self, connect: Connect, executor: RayExecutor) -> None:
        assert executor.workers >= 1
        with connect("local") as other, pytest.raises(ExecutorError, match="already"):
            other.submit(1, [])
        assert ray.is_initialized()


def test_on_two_threads_the_result_is_that_of_this_process(search: Search, connect: Connect) -> None:
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 2))
    with connect("local", compute=compute) as executor:
        for trains in ("all", "block"):
            here = search(compute=compute, trains=trains)
            assert same(here, search(compute=compute, trains=trains, executor=executor))


SEARCH_WITHOUT_END = """
import sys
from spacewarps.search.executors.ray_cluster import RayExecutor
from spacewarps.search.folds import Fold
from spacewarps.search.observer import SearchObserver
from spacewarps.search.progressive import progressive_architecture_search
from spacewarps.search.settings import SearchSettings
from spacewarps.survey.dataset import Space_Galaxi
from spacewarps.training.compute import set_up_compute
from spacewarps.training.settings import ComputeSettings


class Say(SearchObserver):
    def batch_trained(self, samples):
        print("training", flush=True)

train, validation = (Space_Galaxi(sys.argv[1], split=split) for split in ("train", "validation"))
compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
print("starting", flush=True)
with RayExecutor([Fold(train, validation)], compute, workers=2, address="local", gpu_share=0.0) as executor:
    settings = SearchSettings(max_layers=1, epochs_per_eval=100_000)
    progressive_architecture_search(
        train, validation, settings, compute=compute, executor=executor, observer=Say()
    )
"""


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that were started with ``mark`` in their environment, and so on."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.parametrize(
    ("said", "seconds", "how"),
    [
        ("training", 0.0, signal.SIGINT),
        ("starting", 1.0, signal.SIGINT),
        ("starting", 4.0, signal.SIGINT),
        # Ray's own processes look for a killed one for a minute and more.
        pytest.param("training", 0.0, signal.SIGKILL, marks=pytest.mark.kills),
    ],
)
def test_the_end_of_the_search_is_the_end_of_its_cluster(
    prepared_folder: Path, tmp_path: Path, said: str, seconds: float, how: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SEARCH_WITHOUT_END, str(prepared_folder)],
        env={**os.environ, "MARK": str(tmp_path)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.strip() == said for line in process.stdout)
    time.sleep(seconds)
    started = len(marked(str(tmp_path)))
    # Ctrl-C reaches every process of a terminal; nothing else does.
    (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
    _, errors = process.communicate(timeout=SECONDS_TO_END)
    assert started > 1
    assert becomes(lambda: not marked(str(tmp_path)), SECONDS_WITHOUT_CLUSTER), marked(str(tmp_path))
    assert errors.strip().endswith("KeyboardInterrupt") or how == signal.SIGKILL


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Return a cluster of three nodes, of which two compute."""
    from ray.cluster_utils import Cluster

    with clusters.loopback_only():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


def computing() -> list[psutil.Process]:
    """Return the workers that have a job."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("ray::_events" in part for part in process.cmdline()):
                found.append(process)
    return found


class Accident(SearchObserver):
    """Something happens when the second epoch of the first candidate has ended."""

    def __init__(self, happen: Callable[[], object]) -> None:
        self.happen = happen
        self.happened = False

    def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:  # noqa: ARG002
        if epoch.epoch == 2 and not self.happened:
            self.happened = True
            self.happen()


def lose(what: str, cluster: Any) -> None:
    if what == "node":
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    else:
        computing()[0].kill()


@pytest.mark.parametrize(
    ("what", "trains"), [pytest.param("node", "all", marks=pytest.mark.kills), ("node", "block"), ("worker", "all")]
)
def test_a_loss_changes_no_result(
    search: Search,
    connect: Connect,
    cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
    trains: str,
) -> None:
    settings: dict[str, Any] = {"epochs_per_eval": 40, "k_candidates": [2, 4, 3], "max_layers": 2, "trains": trains}
    here = search(**settings)
    lost: list[Lost] = []

    class Watched(RayExecutor):
        def wait(self, seconds: float | None) -> Iterator[tuple[int, Event]]:
            for ticket, event in super().wait(seconds):
                if isinstance(event, Lost):
                    lost.append(event)
                yield ticket, event

    monkeypatch.setattr(sys.modules[__name__], "RayExecutor", Watched)
    with connect(cluster.address) as executor:
        assert executor.workers == 2
        capfd.readouterr()
        accident = Accident(lambda: lose(what, cluster))
        there = search(
            executor=executor,
            journal=FolderJournal(tmp_path),
            checkpoints=True,
            observer=accident,
            **settings,
        )
        assert accident.happened
        assert len(lost) == 1
        assert all("\n" not in event.reason for event in lost)
        # It takes Ray some seconds to be sure.
        assert becomes(lambda: executor.workers == (1 if what == "node" else 2))
        assert capfd.readouterr() == ("", "")
        if what == "node":
            cluster.add_node(num_cpus=3)
            assert executor.workers == 4
    assert same(here, there)


def test_a_cluster_that_was_joined_is_left_as_it_was(search: Search, connect: Connect, cluster: Any) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), connect(cluster.address) as executor:
        search(executor=executor, epochs_per_eval=100_000, observer=Accident(stop))
    assert not ray.is_initialized()
    _, left = psutil.wait_procs(computing(), timeout=SECONDS_TO_END)
    assert left == []
    with connect(cluster.address) as executor:
        assert executor.workers == 2
        assert same(search(), search(executor=executor))


def test_a_job_that_no_node_has_room_for_is_refused(connect: Connect, cluster: Any) -> None:
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 2))
    with connect(cluster.address, compute=compute) as executor:
        assert executor.workers == 1
        executor.submit(1, [])
        with pytest.raises(ExecutorError, match=r"2 CPUs.*`threads`") as caught:
            list(executor.wait(0.5))
    assert "\n" not in str(caught.value)


def test_a_node_without_the_dependencies_is_named_in_one_line(connect: Connect, cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "safetensors.py").write_text("raise ImportError('no safetensors here')", encoding="utf-8")
    cluster.remove_node(cluster.list_all_nodes()[-1])
    cluster.remove_node(cluster.list_all_nodes()[-1])
    cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path)})
    with connect(cluster.address) as executor:
        executor.submit(1, [])
        with pytest.raises(ExecutorError, match=r"no safetensors here.*dependencies") as caught:
            list(executor.wait(60))
    assert "\n" not in str(caught.value)


def test_through_ray_client_the_result_is_that_of_this_process(search: Search, connect: Connect, nobody: str) -> None:
    pytest.importorskip("grpc")
    from ray.cluster_utils import Cluster

    port = int(nobody.rpartition(":")[2])
    head = {"num_cpus": 2, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        assert becomes(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        for left in (2, 1, 0):
            try:
                with connect(f"ray://{nobody}") as executor:
                    assert executor.workers == 2
                    assert same(search(), search(executor=executor))
                break
            except ExecutorError as error:
                # Ray gives the server of a client 30 seconds to start, which a busy machine may need; and one that
                # another cluster's processes have taken the port of ends at once.
                not_started = any(told in str(error) for told in ("Starting Ray client server failed", "ZombieProcess"))
                if not left or not not_started:
                    raise
    finally:
        cluster.shutdown()
