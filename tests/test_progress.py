import errno
import io
import time

import pytest

from spacewarps.progress import progress_bar, say


def test_what_a_name_holds_neither_breaks_a_line_nor_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    say("never predicted: a\nb\x1b[2J\u202ec Αστέρας")
    assert capsys.readouterr().out == "never predicted: a b [2J c Αστέρας\n"


def test_without_a_standard_error_there_is_no_bar_and_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with progress_bar("train", 10) as advance:
        advance(10)


def test_a_terminal_that_is_gone_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        gone = False

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(errno.EIO, "Input/output error")
            return super().write(text)

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("train", 10) as advance:
        terminal.gone = True
        for _ in range(3):
            time.sleep(0.15)
            advance(1)
