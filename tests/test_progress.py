import pytest

from spacewarps.progress import say


def test_what_a_name_holds_neither_breaks_a_line_nor_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    say("never predicted: a\nb\x1b[2J\u202ec Αστέρας")
    assert capsys.readouterr().out == "never predicted: a b [2J c Αστέρας\n"
