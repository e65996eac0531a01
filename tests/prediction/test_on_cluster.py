"""Predictions on a real Ray cluster of this machine."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from spacewarps.cli import main
from spacewarps.errors import SpaceWarpsError
from spacewarps.prediction import survey as prediction
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.parts import Job
from spacewarps.training.compute import kind_of_machine, set_up_compute
from spacewarps.training.settings import ComputeSettings
from tests.survey.delivery import Delivery

ray = pytest.importorskip("ray")

from spacewarps.clusters import this_machine  # noqa: E402 - not without Ray
from spacewarps.prediction import on_cluster  # noqa: E402 - not without Ray

# A cluster takes ten seconds to start.
pytestmark = pytest.mark.long

Predict = Callable[..., int]


@pytest.fixture
def predict(classifier: Classifier, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Run the command in a folder without params, with paths that are relative to it, in parts of 7 samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prediction, "_SAMPLES_IN_A_PART", 7)
    given = {"--catalog": delivery.catalog, "--images": delivery.images, "--model": classifier.folder}
    words = [word for name, path in given.items() for word in (name, os.path.relpath(path))]
    return lambda out, *options: main(["predict", *words, "--out", out, *options])


def test_a_cluster_writes_the_table_that_this_process_writes(
    predict: Predict, delivery: Delivery, capfd: pytest.CaptureFixture[str]
) -> None:
    (delivery.images / "s04.png").write_bytes(b"no picture")
    assert predict("here.csv", "--workers", "1") == 0
    here = capfd.readouterr()
    assert predict("there.csv", "--ray", "local") == 0
    there = capfd.readouterr()
    # Where it takes long, lines on the progress stand before.
    assert there.out.endswith(here.out.replace("here.", "there."))
    assert there.err == ""
    for name in (".csv", ".left_out.csv"):
        assert Path(f"there{name}").read_bytes() == Path(f"here{name}").read_bytes()
    assert "s04" in Path("there.left_out.csv").read_text()
    assert not ray.is_initialized()


def test_a_worker_that_is_lost_costs_its_part_alone(predict: Predict) -> None:
    assert predict("here.csv", "--workers", "1") == 0
    lost: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and not lost:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any("ray::_answer_there" in part for part in process.cmdline()):
                        process.kill()
                        lost.append(process.pid)
                        return
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert predict("there.csv", "--ray", "local") == 0
    finally:
        over.set()
        killer.join()
    assert len(lost) == 1
    assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()


def test_where_no_cluster_is_one_line_says_so(predict: Predict, capfd: pytest.CaptureFixture[str]) -> None:
    assert predict("there.csv", "--ray", "127.0.0.1:9") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "no part can be predicted on the Ray cluster at 127.0.0.1:9: Connection refused" in line
    assert not Path("there.csv").exists()
    with pytest.raises(SystemExit):
        predict("there.csv", "--ray", "local", "--workers", "2")
    assert "not allowed with argument" in capfd.readouterr().err


def test_a_node_that_would_answer_otherwise_is_named(
    classifier: Classifier, delivery: Delivery, tmp_path: Path
) -> None:
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    files, here = on_cluster._files_of(classifier), this_machine(kind_of_machine(compute.device))
    job = Job([], pd.DataFrame())
    for images, machine, told in (
        (tmp_path / "elsewhere", here, "does not see .*elsewhere; put the stamps where all nodes"),
        (delivery.images, "an abacus", "may round differently than this machine: .*, the other an abacus;"),
    ):
        with pytest.raises(SpaceWarpsError, match=told):
            on_cluster._answer_there(job, on_cluster._Shared(files, compute, machine, images))
