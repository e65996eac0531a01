"""Searches in processes of their own, which are killed, run side by side, or run out of disk."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spacewarps.search.journal import FolderJournal, list_entries

SCRIPT = Path(__file__).with_name("small_search.py")
DEEP = {"k_candidates": [2, 3, 4, 5, 6], "max_layers": 3, "epochs_per_eval": 6, "seed": 3}
SHALLOW = {"k_candidates": [2, 3, 4], "max_layers": 2, "epochs_per_eval": 3, "seed": 3}


class Searches:
    """Runs one search after another, each in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = 0
        self.end: dict[str, Any] = {}
        self.status = 0
        self._say("ready")

    def _say(self, wanted: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith(wanted), line
        return line

    def start(self, options: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(options) + "\n")
        self._process.stdin.flush()
        self.pid = int(self._say("started").split()[1])

    def epochs(self) -> Iterator[str]:
        """Yield ``known`` or ``trained`` for each epoch of the search, until it is gone."""
        assert self._process.stdout is not None
        self.end = {}
        for line in self._process.stdout:
            word, _, rest = line.partition(" ")
            if word == "gone":
                self.status = int(rest)
                return
            if word == "end":
                self.end = json.loads(rest)
            else:
                yield word

    def run(self, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        self.start(options)
        epochs = list(self.epochs())
        assert self.status == 0
        return self.end, epochs

    def processes(self) -> list[psutil.Process]:
        """Return what belongs to the last search and still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def wait_until_nothing_runs(self) -> None:
        deadline = time.monotonic() + 10
        while running := self.processes():
            assert time.monotonic() < deadline, running
            time.sleep(0.05)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="module")
def searches() -> Iterator[Searches]:
    found = Searches()
    yield found
    found.close()


@pytest.fixture(scope="module")
def others() -> Iterator[Searches]:
    found = Searches()
    yield found
    found.close()


@pytest.fixture(scope="module")
def bits(searches: Searches, prepared_folder: Path) -> dict[str, str]:
    """What searches that nobody disturbs come to, by the number of their layers."""
    ends = [searches.run({"prepared": str(prepared_folder), **options})[0] for options in (SHALLOW, DEEP)]
    # All layers are grown, or later tests would have less to do than they think.
    assert [end["epochs"] for end in ends] == [2 * 3 * 3, 3 * 5 * 6]
    return {"shallow": ends[0]["bits"], "deep": ends[1]["bits"]}


def finished(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return file and content of every entry that holds a candidate trained to the end."""
    entries = [entry for entry in list_entries(folder) if entry.epochs == entry.of_epochs]
    return {entry.path.name: (entry.path.stat().st_ino, entry.path.read_bytes()) for entry in entries}


def check(folder: Path, before: dict[str, tuple[int, bytes]]) -> None:
    """Check that the journal holds whole entries only, and that those in ``before`` were not written again."""
    journal = FolderJournal(folder)
    for path in folder.iterdir():
        if path.name != "claims" and not path.name.startswith("."):
            assert re.fullmatch(r"[0-9a-f]{64}\.candidate", path.name)
            assert journal.find(path.stem) is not None
    journal.close()
    after = finished(folder)
    assert before.items() <= after.items()


def kill_often(
    searches: Searches, options: dict[str, Any], folder: Path, kills: int, chance: random.Random
) -> tuple[dict[str, Any], int]:
    """Run a search that is killed ``kills`` times; return how it ended, and how many epochs were trained in all."""
    trained = 0
    for _ in range(kills):
        before = finished(folder)
        searches.start(options)
        # An epoch is said just before it is written, so that many of these moments lie within the writing.
        epochs, delay = chance.randrange(4), chance.uniform(0, 0.03)
        if not epochs:
            time.sleep(delay)
            os.kill(searches.pid, signal.SIGKILL)
        for word in searches.epochs():
            trained += word == "trained"
            if word == "trained" and epochs:
                epochs -= 1
                if not epochs:
                    time.sleep(delay)
                    os.kill(searches.pid, signal.SIGKILL)
        assert searches.status == -signal.SIGKILL
        searches.wait_until_nothing_runs()
        check(folder, before)
    before = finished(folder)
    end, epochs_of_end = searches.run(options)
    check(folder, before)
    assert end["found"] >= len(before)
    return end, trained + epochs_of_end.count("trained")


def test_a_search_that_is_killed_and_goes_on_ends_with_the_same_bits(
    searches: Searches, bits: dict[str, str], prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), "journal": str(tmp_path / "journal"), "checkpoints": True, **SHALLOW}
    end, trained = kill_often(searches, options, tmp_path / "journal", 3, random.Random(2))
    assert end["bits"] == bits["shallow"]
    # Each kill costs the epoch under way, and one that was not yet written.
    assert trained <= end["epochs"] + 3


@pytest.mark.long
@pytest.mark.parametrize(("workers", "kills"), [(0, 30), (2, 10)])
def test_a_search_that_is_killed_many_times_ends_with_the_same_bits_and_trains_no_candidate_twice(
    searches: Searches, bits: dict[str, str], prepared_folder: Path, tmp_path: Path, workers: int, kills: int
) -> None:
    folder = tmp_path / "journal"
    options = {"prepared": str(prepared_folder), "journal": str(folder), "checkpoints": True, "workers": workers}
    end, trained = kill_often(searches, options | DEEP, folder, kills, random.Random(workers))
    assert end["bits"] == bits["deep"]
    assert end["evaluated"] + end["found"] == end["candidates"] == 15
    assert trained <= end["epochs"] + kills * max(1, workers)
    again, epochs = searches.run(options | DEEP)
    assert (again["bits"], again["evaluated"], again["found"]) == (bits["deep"], 0, 15)
    assert set(epochs) == {"known"}


@pytest.mark.long
def test_without_checkpoints_a_kill_costs_the_candidates_under_way_and_nothing_else(
    searches: Searches, bits: dict[str, str], prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), "journal": str(tmp_path / "journal"), "checkpoints": False, **SHALLOW}
    end, trained = kill_often(searches, options, tmp_path / "journal", 10, random.Random(5))
    assert end["bits"] == bits["shallow"]
    assert trained <= end["epochs"] + 10 * 3


def test_two_searches_at_once_share_a_journal_and_evaluate_each_candidate_once(
    searches: Searches, others: Searches, bits: dict[str, str], prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), "journal": str(tmp_path / "journal"), **SHALLOW}
    searches.start(options)
    others.start(options)
    first, second = list(searches.epochs()), list(others.epochs())
    ends = (searches.end, others.end)
    assert [end["bits"] for end in ends] == [bits["shallow"]] * 2
    assert sum(end["evaluated"] for end in ends) == 6
    assert sum(end["found"] for end in ends) == 6
    assert (first + second).count("trained") == 18
    # Otherwise one had waited for the other to end.
    assert all(end["evaluated"] for end in ends)


def test_a_search_takes_over_what_one_that_was_killed_had_in_hand(
    searches: Searches, others: Searches, bits: dict[str, str], prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), "journal": str(tmp_path / "journal"), **SHALLOW}
    searches.start(options)
    epochs = searches.epochs()
    assert next(epochs) == "trained"
    os.kill(searches.pid, signal.SIGSTOP)
    others.start(options)
    others_epochs = others.epochs()
    # The widest is in the hands of the first search, and no candidate of the next layer can begin without it.
    assert [next(others_epochs) for _ in range(6)] == ["trained"] * 6
    time.sleep(1)
    assert not list((tmp_path / "journal").glob("*.candidate"))[2:]
    os.kill(searches.pid, signal.SIGKILL)
    assert not list(epochs)
    list(others_epochs)
    assert others.end["bits"] == bits["shallow"]
    assert (others.end["evaluated"], others.end["found"]) == (6, 0)


@pytest.mark.parametrize("largest_file", [0, 3000, 5000])
def test_a_full_disk_costs_notes_and_not_the_search(
    searches: Searches, bits: dict[str, str], prepared_folder: Path, tmp_path: Path, largest_file: int
) -> None:
    folder = tmp_path / "journal"
    options = {"prepared": str(prepared_folder), "journal": str(folder), "checkpoints": True, **SHALLOW}
    end, _ = searches.run(options | {"largest_file": largest_file})
    assert end["bits"] == bits["shallow"]
    assert end["failure"] == "File too large"
    assert not list(folder.glob(".*"))
    check(folder, {})
    again, _ = searches.run(options)
    assert (again["bits"], again["failure"]) == (bits["shallow"], None)
    assert len(finished(folder)) == 6


def workers_of(searches: Searches) -> list[psutil.Process]:
    """Return the processes that evaluate: the children of the one that forks them."""
    driver = psutil.Process(searches.pid)
    return [worker for child in driver.children() for worker in child.children()]


@pytest.mark.long
def test_workers_end_within_seconds_when_their_search_is_killed(
    searches: Searches, prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), "journal": str(tmp_path / "journal"), **DEEP, "epochs_per_eval": 500}
    searches.start(options | {"workers": 2, "checkpoints": True})
    epochs = searches.epochs()
    while len(workers_of(searches)) < 2:
        assert next(epochs) == "trained"
    assert len(searches.processes()) >= 4
    os.kill(searches.pid, signal.SIGKILL)
    start = time.monotonic()
    list(epochs)
    searches.wait_until_nothing_runs()
    assert time.monotonic() - start < 5
    assert searches.status == -signal.SIGKILL
