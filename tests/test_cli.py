import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacewarps.cli import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_kill_and_a_closed_terminal_interrupt_once(number: signal.Signals) -> None:
    assert main(["params", "--check"]) == 0
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    # What tidies up is not cut short by a shell that says it again.
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_nohup_has_made_deaf_to_its_terminal_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert main(["params", "--check"]) == 0
    os.kill(os.getpid(), signal.SIGHUP)
