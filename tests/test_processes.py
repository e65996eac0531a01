import subprocess
import sys

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
    assert has_ended(of_process(own.pid, own.create_time() - 100)) is True


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
