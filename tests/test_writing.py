from pathlib import Path

import pandas as pd
import pytest

from spacewarps.writing import in_percent, write_csv, write_json, write_text


def test_json_has_the_same_bytes_every_time_and_takes_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": ["é", None, 0.1]})
    before = '{\n  "b": 1,\n  "a": [\n    "é",\n    null,\n    0.1\n  ]\n}\n'.encode()
    assert (tmp_path / "a.json").read_bytes() == before
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert (tmp_path / "a.json").read_bytes() == before


def test_text_and_tables_keep_their_line_ends_and_every_digit(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", "ä\r\nb\n")
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [0.1, 1 / 3], "y": ["ä, b", ""]}))
    assert (tmp_path / "a.md").read_bytes() == "ä\r\nb\n".encode()
    assert (tmp_path / "a.csv").read_bytes() == 'x,y\n0.1,"ä, b"\n0.3333333333333333,\n'.encode()


@pytest.mark.parametrize(("share", "told"), [(0.95, "95%"), (0.999, "99.9%"), (0.29, "29%"), (0.8413, "84.13%")])
def test_a_share_has_the_digits_that_it_was_given(share: float, told: str) -> None:
    assert in_percent(share) == told
