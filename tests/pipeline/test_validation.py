"""The pipeline as its users drive it, through DVC; each of these takes a while."""

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.entities import Run

from tests.pipeline.conftest import MakeOnce
from tests.pipeline.project import Project, wait_until_nothing_runs
from tiny_project import processes_of_session

pytestmark = pytest.mark.long

SAMPLE = os.environ.get("SPACEWARPS_SAMPLE")


@pytest.fixture(scope="session")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose whole pipeline has run once; each test leaves it as it was."""
    return finished.copy(tmp_path_factory.mktemp("validation") / "project")


def top_run(project: Project, name: str) -> Run:
    (run,) = [run for run in project.runs() if run.info.run_name == name and "mlflow.parentRunId" not in run.data.tags]
    return run


def test_dag_has_all_stages(project: Project) -> None:
    graph = project.dvc("dag", "--dot").stdout
    assert all(f'"{stage}"' in graph for stage in ("simulate", "prepare", "search", "train", "evaluate"))


def test_another_clone_and_all_stages_by_force_give_the_same_bytes(project: Project, tmp_path: Path) -> None:
    project.git("clone", "--quiet", str(project.folder), str(tmp_path / "elsewhere"))
    clone = project.at(tmp_path / "elsewhere")
    assert clone.dvc("repro", "--force").stdout.count("Running stage") == 5
    assert (clone.folder / "dvc.lock").read_bytes() == (project.folder / "dvc.lock").read_bytes()
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.parametrize("executor", ["processes", "inline", "ray"])
def test_another_executor_and_an_empty_journal_give_the_same_lock(project: Project, executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    before = (project.folder / "dvc.lock").read_bytes()
    original = project.params()
    changed = project.params()
    changed["search"] |= {"executor": executor, "workers": 3}
    project.write_params(changed)
    shutil.rmtree(project.folder / ".spacewarps")
    try:
        said = project.dvc("repro", "--force", "--single-item", "search").stdout
    finally:
        project.write_params(original)
    assert "4 candidates evaluated, 0 found in the journal" in said
    assert (project.folder / "dvc.lock").read_bytes() == before


def test_an_experiment_reruns_only_what_its_params_touch_and_can_be_compared(project: Project) -> None:
    done = project.dvc("exp", "run", "--name", "deeper", "--set-param", "search.max_layers=3")
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran[0] == "search"
    assert not {"simulate", "prepare"} & set(ran)
    summary = json.loads((project.folder / "reports/search.json").read_text())
    assert {c["layer"] for c in summary["candidates"]} <= {1, 2, 3}

    shown = project.dvc("exp", "show", "--csv").stdout
    assert "deeper" in shown
    header = shown.splitlines()[0].split(",")
    assert "search.max_layers" in header
    assert {"accuracy", "log_loss", "ece", "blocks"} <= set(header)
    table = project.experiments(columns=80)
    assert any("search.max_layers" in line for line in table)
    assert max(map(len, table)) <= 80
    (change,) = json.loads(project.dvc("exp", "diff", "--json", "HEAD", "deeper").stdout)["params"][
        "params.yaml"
    ].items()
    assert change[0] == "search.max_layers"
    project.dvc("metrics", "diff")
    project.dvc("plots", "diff", "--out", "dvc_plots", "HEAD", "workspace")
    assert (project.folder / "dvc_plots/index.html").exists()
    assert top_run(project, "deeper").data.tags["dvc.experiment"] == "deeper"
    project.git("checkout", "--quiet", "--force", "HEAD")
    project.git("clean", "--quiet", "--force", "-d")
    project.dvc("checkout", "--force")


def test_an_experiment_in_a_temporary_copy_uses_the_projects_own_journal(project: Project) -> None:
    before = project.entries()
    project.dvc("exp", "run", "--temp", "--name", "wider-aside", "--set-param", "search.k_candidates=[3,5,7]")
    (search,) = [
        run
        for run in project.runs()
        if run.data.tags.get("spacewarps.stage") == "search" and run.data.tags.get("dvc.experiment") == "wider-aside"
    ]
    added = project.entries().keys() - before.keys()
    assert search.data.params["search.k_candidates"] == "[3, 5, 7]"
    assert search.data.metrics["candidates_evaluated"] == len(added) >= 1
    assert search.data.metrics["candidates_found"] == 6 - len(added) >= 2
    assert before.items() <= project.entries().items()


def test_an_experiment_in_a_temporary_copy_is_tracked_in_the_projects_own_database(project: Project) -> None:
    project.dvc("exp", "run", "--temp", "--name", "aside", "--set-param", "train.epochs=1")
    run = top_run(project, "aside")
    assert run.data.params["train.epochs"] == "1"
    assert "test/accuracy" in run.data.metrics


def test_a_param_that_does_not_exist_is_refused(project: Project) -> None:
    done = project.dvc("exp", "run", "--set-param", "search.max_layer=3", check=False)
    assert done.returncode != 0
    assert "max_layer" in done.stderr
    assert project.git("status", "--porcelain") == ""


def test_a_bad_survey_stops_the_pipeline_and_checkout_brings_the_outputs_back(project: Project, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "catalogue.csv").write_text("id,class\n1,STAR\n")
    before = (project.folder / "data/prepared/samples.csv").read_bytes()
    done = project.dvc(
        "exp",
        "run",
        "-S",
        f"data.catalog={tmp_path}/catalogue.csv",
        "-S",
        f"data.images={tmp_path}/images",
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "catalogue.csv" in done.stderr
    project.git("checkout", "--quiet", "--force", "HEAD")
    project.dvc("checkout", "--force")
    assert (project.folder / "data/prepared/samples.csv").read_bytes() == before


def test_dvc_deletes_nothing_that_a_stage_did_not_write(project: Project, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "project")
    mine = copy.folder / "data/demo/catalog/mine.csv"
    mine.write_text("mine")
    before = {path: path.read_bytes() for path in (copy.folder / "data/demo").rglob("*") if path.is_file()}
    done = copy.dvc("repro", check=False)
    assert done.returncode != 0
    assert "data/demo would be replaced as a whole, but it holds 'catalog/mine.csv'" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_killed_stage_leaves_nothing_half_written_and_the_next_run_ends_the_same(
    project: Project, stage: str
) -> None:
    before = (project.folder / "dvc.lock").read_bytes()
    output = project.folder / {"search": "models/search", "train": "models/final"}[stage]
    whole = {file.name: file.read_bytes() for file in output.iterdir()}
    with project.start("dvc", "repro", "--force", "--single-item", stage) as process:
        assert process.stdout is not None
        mark = {"search": "  step 1", "train": "  epoch 1"}[stage]
        assert any(line.startswith(mark) for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        wait_until_nothing_runs(process.pid)
    assert not output.exists() or {file.name: file.read_bytes() for file in output.iterdir()} == whole
    project.dvc("repro")
    assert (project.folder / "dvc.lock").read_bytes() == before


def test_a_param_that_is_edited_while_the_search_runs_is_not_recorded(project: Project, tmp_path: Path) -> None:
    copy, lock = project.copy(tmp_path / "project"), (project.folder / "dvc.lock").read_bytes()
    shutil.rmtree(copy.folder / ".spacewarps")
    params = copy.params()
    params["search"]["epochs_per_eval"] = 50
    copy.write_params(params)
    with copy.start("dvc", "repro", "search") as process:
        deadline = time.monotonic() + 300
        while not copy.entries():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        copy.write_params(params | {"optimiser": params["optimiser"] | {"learning_rate": 0.5}})
        _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert (copy.folder / "dvc.lock").read_bytes() == lock
    (told,) = [line for line in errors.splitlines() if line.startswith("spacewarps search: ")]
    rate = params["optimiser"]["learning_rate"]
    assert f"optimiser.learning_rate was {rate} when this began and is 0.5 now, so DVC would record what" in told
    copy.write_params(params)
    assert "; 0 candidates evaluated, " in copy.dvc("repro", "search").stdout.replace("\n", "; ")
    assert copy.lock()["stages"]["search"]["params"]["params.yaml"]["optimiser"]["learning_rate"] == rate


@pytest.fixture(scope="session")
def searched(make_once: MakeOnce) -> Project:
    """A project with a search that takes some seconds, on two processes, and has run once."""

    def make(project: Project) -> None:
        params = project.params()
        params["search"] |= {"executor": "processes", "workers": 2, "k_candidates": [3, 4, 5], "epochs_per_eval": 50}
        project.write_params(params)
        project.dvc("repro", "search")

    return make_once("searched", make)


def search_and_workers(leader: int) -> tuple[psutil.Process | None, list[psutil.Process]]:
    """Return the process that searches and those that evaluate for it, of all in the session of ``leader``."""
    for process in processes_of_session(leader):
        with contextlib.suppress(psutil.NoSuchProcess):
            # A process that just starts has no command line yet.
            *_, program, command = ["", "", *process.cmdline()]
            if (Path(program).name, command) == ("spacewarps", "search"):
                servers = [c for c in process.children() if "multiprocessing.forkserver" in " ".join(c.cmdline())]
                return process, [worker for server in servers for worker in server.children()]
    return None, []


@pytest.mark.kills
@pytest.mark.parametrize("victim", ["everything", "the search", "a worker"])
def test_a_pipeline_that_is_killed_again_and_again_ends_with_the_same_lock(
    searched: Project, tmp_path: Path, victim: str
) -> None:
    copy, lock = searched.copy(tmp_path / "project"), (searched.folder / "dvc.lock").read_bytes()
    chance = random.Random(victim)
    shutil.rmtree(copy.folder / ".spacewarps")
    for _ in range(2):
        with copy.start("dvc", "repro", "--force", "--single-item", "search") as run:
            search, workers = search_and_workers(run.pid)
            while run.poll() is None and not workers:
                time.sleep(0.02)
                search, workers = search_and_workers(run.pid)
            # At any moment, also after the end.
            time.sleep(chance.uniform(0, 2))
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if victim == "everything":
                    os.killpg(run.pid, signal.SIGKILL)
                elif victim == "the search" and search is not None:
                    search.kill()
                elif workers:
                    chance.choice(workers).kill()
            said = run.communicate(timeout=300)
            wait_until_nothing_runs(run.pid)
        assert victim != "a worker" or run.returncode == 0, said
        if run.returncode == 0:
            assert (copy.folder / "dvc.lock").read_bytes() == lock
            assert copy.entries() == searched.entries()
            shutil.rmtree(copy.folder / ".spacewarps")
    copy.dvc("repro", "--force", "--single-item", "search")
    assert (copy.folder / "dvc.lock").read_bytes() == lock
    assert copy.entries() == searched.entries()


@pytest.fixture(scope="session")
def recoded(make_once: MakeOnce) -> Project:
    """A project whose code is not the installed one's: its stamps have another quality."""

    def make(project: Project) -> None:
        demo = project.folder / "src/spacewarps/simulation/demo.py"
        code = demo.read_text()
        assert "JPEG_QUALITY = 95" in code
        demo.write_text(code.replace("JPEG_QUALITY = 95", "JPEG_QUALITY = 50"))
        project.commit("Write coarser stamps")
        project.dvc("repro", "simulate")
        project.commit("Simulate")

    return make_once("recoded", make)


@pytest.mark.parametrize(("path", "stage"), [("search", "search"), ("final", "train"), ("reports", "evaluate")])
def test_neither_dvc_nor_a_stage_deletes_what_a_user_put_where_the_stage_writes(
    project: Project, tmp_path: Path, path: str, stage: str
) -> None:
    copy = project.copy(tmp_path / "project")
    mine = copy.folder / ("notes/report" if path == "reports" else "notes") / "a.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    params = copy.params()
    if path == "reports":
        shutil.copytree(copy.folder / "reports", copy.folder / "notes", dirs_exist_ok=True)
    copy.write_params(params | {"paths": params["paths"] | {path: "notes"}})
    done = copy.dvc("repro", "--single-item", "--force", stage, check=False)
    assert done.returncode != 0
    assert "notes" in done.stderr
    assert "'a.txt', which was not written by the stage" in done.stderr
    assert mine.read_text() == "mine"


def experiments(project: Project) -> dict[str, str]:
    refs = project.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return {ref.split("/")[-1]: ref for ref in refs if ref.count("/") == 4}


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_an_experiment_runs_the_code_of_its_own_commit(recoded: Project, project: Project, how: str) -> None:
    workspace = recoded.folder / "src/spacewarps/simulation/demo.py"
    code = workspace.read_text()
    recoded.dvc("exp", "run", how, "--force", "--name", f"own{how}", "simulate")
    if how == "--queue":
        # What is edited after an experiment was queued is none of its business.
        workspace.write_text("raise ImportError('the code of the workspace')")
        recoded.dvc("queue", "start")
        deadline = time.monotonic() + 60
        while "own--queue" not in experiments(recoded):
            assert time.monotonic() < deadline, recoded.dvc("queue", "logs", "own--queue").stdout
            time.sleep(0.5)
        workspace.write_text(code)
    lock = yaml.safe_load(recoded.git("show", f"{experiments(recoded)[f'own{how}']}:dvc.lock"))
    outputs = [each["stages"]["simulate"]["outs"] for each in (lock, recoded.lock(), project.lock())]
    assert outputs[0] == outputs[1] != outputs[2]


def test_a_worktree_runs_its_own_code_with_the_environment_of_the_main_clone(recoded: Project, tmp_path: Path) -> None:
    recoded.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    tree = recoded.at(tmp_path / "tree")
    tree.dvc("repro", "--force", "simulate")
    assert tree.lock()["stages"]["simulate"]["outs"] == recoded.lock()["stages"]["simulate"]["outs"]


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_workers_run_the_code_of_the_folder_that_the_search_runs_in(
    project: Project, tmp_path: Path, executor: str
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    copy = project.copy(tmp_path / "project")
    candidate = copy.folder / "src/spacewarps/search/candidate.py"
    replaced = """

def evaluate(*_):
    from spacewarps.errors import SpaceWarpsError

    raise SpaceWarpsError("the code of this folder")
"""
    candidate.write_text(candidate.read_text() + replaced)
    params = copy.params()
    params["search"] |= {"executor": executor, "workers": 1}
    copy.write_params(params)
    done = copy.run("spacewarps", "search", check=False)
    assert (done.returncode, done.stderr) == (2, "spacewarps search: the code of this folder\n")


@pytest.mark.skipif(SAMPLE is None, reason="SPACEWARPS_SAMPLE names no real sample")
def test_the_real_sample_needs_only_the_two_data_params(make_project: Callable[[], Project]) -> None:
    project = make_project()
    assert SAMPLE is not None
    survey = Path(SAMPLE).resolve()
    project.dvc("exp", "run", "-S", f"data.catalog={survey}", "-S", f"data.images={survey / 'images'}")
    audit = json.loads((project.folder / "data/prepared/audit.json").read_text())
    assert (audit["rows_in"], audit["rows_kept"]) == (1177, 1176)
    assert audit["images"]["without_row"]["names"] == ["nan.jpg"]
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    assert metrics["test"]["accuracy_low"] > metrics["baseline"]["most_frequent_class"]["accuracy"]
    assert str(survey) not in (project.folder / "data/prepared/audit.json").read_text()
