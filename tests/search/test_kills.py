"""Searches in processes of their own, which are killed, run side by side, or run out of disk."""

import contextlib
import itertools
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

from spacewarps.search.entries import list_entries
from spacewarps.search.journal import FolderJournal

SCRIPT = Path(__file__).with_name("small_search.py")
DEEP = {"k_candidates": [2, 3, 4, 5, 6], "max_layers": 3, "epochs_per_eval": 6, "seed": 3}
RACE = {
    "k_candidates": [1, 2, 4],
    "max_layers": 2,
    "epochs_per_eval": 3,
    "seed": 3,
    "folds": 3,
    "decides": "loss",
    "racing": True,
    "patience": 2,
}
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


def run_and_kill(searches: Searches, options: dict[str, Any], moment: tuple[int, float] | None) -> tuple[bool, int]:
    """Run a search that is killed so many seconds after so many epochs, if it takes that long.

    Return whether it was killed, and how many epochs it trained.
    """
    searches.start(options)
    said, trained = searches.epochs(), 0
    if moment is not None:
        epochs, delay = moment
        while trained < epochs and (word := next(said, None)) is not None:
            trained += word == "trained"
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(searches.pid, signal.SIGKILL)
    trained += sum(word == "trained" for word in said)
    searches.wait_until_nothing_runs()
    assert searches.status in (0, -signal.SIGKILL)
    return searches.status != 0, trained


def kill_often(searches: Searches, options: dict[str, Any], folder: Path, kills: int, seed: int) -> None:
    """Kill a search ``kills`` times, each time starting it again; check it after each kill and whenever it ends."""
    chance, bits = random.Random(seed), searches.run(options)[0]["bits"]
    slack = (1 if options["checkpoints"] else options["epochs_per_eval"]) * max(1, options.get("workers", 0))
    left = kills
    for number in itertools.count():
        journal = folder / str(number)
        trained, allowance = 0, 0
        before: dict[str, Any] = {}
        killed = True
        while killed:
            # An epoch is said just before it is written, so that many of these moments lie within the writing.
            moment = (chance.randrange(4), chance.uniform(0, 0.03)) if left else None
            killed, epochs = run_and_kill(searches, {**options, "journal": str(journal)}, moment)
            left -= killed
            trained += epochs
            # A kill costs what was under way and not yet written down.
            allowance += slack * killed
            check(journal, before)
            before = finished(journal)
        assert searches.end["bits"] == bits
        assert searches.end["evaluated"] + searches.end["found"] == searches.end["candidates"]
        assert searches.end["evaluations"] == len(before)
        assert searches.end["epochs"] <= trained <= searches.end["epochs"] + allowance
        if not left:
            return


def test_a_search_that_is_killed_and_goes_on_ends_with_the_same_bits(
    searches: Searches, prepared_folder: Path, tmp_path: Path
) -> None:
    kill_often(searches, {"prepared": str(prepared_folder), "checkpoints": True, **SHALLOW}, tmp_path, 3, seed=2)


@pytest.mark.kills
@pytest.mark.parametrize(
    ("kills", "options"),
    [
        (60, {"checkpoints": True, **DEEP}),
        (20, {"checkpoints": False, **SHALLOW}),
        (20, {"checkpoints": True, "strategy": "beam", **SHALLOW}),
        (20, {"checkpoints": True, "mode": "siblings", **SHALLOW}),
        (10, {"checkpoints": True, "workers": 2, **DEEP}),
        (10, {"checkpoints": True, "workers": 2, **RACE}),
        (10, {"checkpoints": True, "workers": 2, "control": True, **RACE}),
    ],
)
def test_a_search_that_is_killed_many_times_has_the_same_bits_and_repeats_nothing(
    searches: Searches, prepared_folder: Path, tmp_path: Path, kills: int, options: dict[str, Any]
) -> None:
    kill_often(searches, {"prepared": str(prepared_folder), **options}, tmp_path, kills, seed=kills)


def test_two_searches_at_once_share_a_journal_and_evaluate_each_candidate_once(
    searches: Searches, others: Searches, prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), **SHALLOW, "epochs_per_eval": 10}
    alone, _ = searches.run(options)
    assert alone["candidates"] == 6
    for both in (searches, others):
        both.start(options | {"journal": str(tmp_path / "journal")})
    first, second = list(searches.epochs()), list(others.epochs())
    ends = (searches.end, others.end)
    assert [end["bits"] for end in ends] == [alone["bits"]] * 2
    assert sum(end["evaluated"] for end in ends) == 6
    assert sum(end["found"] for end in ends) == 6
    assert (first + second).count("trained") == 60
    # Otherwise one had waited for the other to end.
    assert all(end["evaluated"] for end in ends)


def test_a_search_takes_over_what_one_that_was_killed_had_in_hand(
    searches: Searches, others: Searches, prepared_folder: Path, tmp_path: Path
) -> None:
    options = {"prepared": str(prepared_folder), **SHALLOW, "max_layers": 1, "epochs_per_eval": 25}
    alone, _ = searches.run(options)
    options |= {"journal": str(tmp_path / "journal")}
    searches.start(options)
    epochs = searches.epochs()
    assert next(epochs) == "trained"
    os.kill(searches.pid, signal.SIGSTOP)
    others.start(options)
    others_epochs = others.epochs()
    # The widest is in the hands of the first search.
    assert [next(others_epochs) for _ in range(50)] == ["trained"] * 50
    time.sleep(1)
    assert len(list((tmp_path / "journal").glob("*.candidate"))) == 2
    os.kill(searches.pid, signal.SIGKILL)
    list(epochs)
    assert list(others_epochs) == ["trained"] * 25
    assert others.end["bits"] == alone["bits"]
    assert (others.end["evaluated"], others.end["found"]) == (3, 0)


@pytest.mark.parametrize("largest_file", [0, 3000, 5000])
def test_a_full_disk_costs_notes_and_not_the_search(
    searches: Searches, prepared_folder: Path, tmp_path: Path, largest_file: int
) -> None:
    folder = tmp_path / "journal"
    options = {"prepared": str(prepared_folder), "journal": str(folder), "checkpoints": True, **SHALLOW}
    full, _ = searches.run(options | {"largest_file": largest_file})
    assert full["failure"] == "File too large"
    assert not list(folder.glob(".*"))
    check(folder, {})
    again, _ = searches.run(options)
    assert (again["bits"], again["failure"]) == (full["bits"], None)
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
