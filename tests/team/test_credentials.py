import json
import subprocess
from pathlib import Path

import pytest

from spacewarps.errors import SpaceWarpsError
from spacewarps.team.credentials import Credentials, as_shell, write_secret


def test_passwords_are_made_once_in_a_file_that_only_its_user_can_read(tmp_path: Path) -> None:
    made = Credentials.in_folder(tmp_path / "secrets")
    assert Credentials.in_folder(tmp_path / "secrets") == made
    assert Credentials.in_folder(tmp_path / "others").password != made.password
    assert len({made.password, made.database_password, made.s3_key, made.s3_secret, made.cookies}) == 5
    assert [path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")] == [0] * 4


def test_a_secret_takes_the_place_of_a_file_that_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"user": "a", "other": "b"})])
def test_a_damaged_file_of_passwords_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "credentials.json").write_text(content)
    with pytest.raises(SpaceWarpsError, match=r"credentials\.json: not the passwords .* remove the whole folder$"):
        Credentials.in_folder(tmp_path)
    assert (tmp_path / "credentials.json").read_text() == content


def test_a_shell_reads_every_sign_of_a_variable(tmp_path: Path) -> None:
    value = "it's $HOME `id` \"\\ %"
    (tmp_path / "environment").write_text(as_shell({"A_WORD": value}))
    said = subprocess.run(
        ["sh", "-c", '. ./environment; printf %s "$A_WORD"'], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout == value
