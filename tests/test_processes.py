import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spacewarps import processes
from spacewarps.processes import has_ended, name_of
from tests.processes import of_process


def test_a_process_has_ended_when_its_number_is_free_or_anothers() -> None:
    own = psutil.Process()
    assert has_ended(name_of(own)) is False
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = name_of(psutil.Process(sleeper.pid))
    assert has_ended(name) is False
    sleeper.kill()
    sleeper.wait()
    assert has_ended(name) is True
    assert has_ended(of_process(own.pid, 1)) is True


def test_a_process_whose_end_nobody_asked_for_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = name_of(psutil.Process(child.pid))
    assert has_ended(name) is False
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert has_ended(name) is True
    child.communicate()


def test_a_clock_that_is_set_changes_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = name_of(psutil.Process())
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: 1.0)
    assert psutil.Process().create_time() < 10**9
    assert name_of(psutil.Process()) == name
    assert has_ended(name) is False


def test_a_name_of_a_program_may_hold_anything(tmp_path: Path) -> None:
    script = tmp_path / "a) b (c"
    script.write_text("#!/bin/sh\nread line\n")
    script.chmod(0o755)
    with subprocess.Popen([script], stdin=subprocess.PIPE) as child:
        assert has_ended(name_of(psutil.Process(child.pid))) is False
        child.communicate()


def test_of_another_machine_nobody_can_tell_and_a_restart_has_ended_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = name_of(psutil.Process())
    monkeypatch.setattr(processes, "_start_of_machine", lambda: "another")
    assert has_ended(name) is True
    monkeypatch.setattr(processes, "_machine", lambda: "another")
    assert has_ended(name) is None
    assert has_ended("") is None
    assert has_ended("what another version wrote") is None
