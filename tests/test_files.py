import os
import stat
from pathlib import Path

import pytest

from spacewarps.files import replaced_directory, replaced_file, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_in_directory(path: Path, error: BaseException) -> None:
    with replaced_directory(path) as target:
        (target / "new").write_text("half", encoding="utf-8")
        raise error


def fail_in_file(path: Path, error: BaseException) -> None:
    with replaced_file(path) as target:
        target.write_text("half", encoding="utf-8")
        raise error


def test_a_folder_takes_the_place_of_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "old").write_text("old", encoding="utf-8")
    with replaced_directory(tmp_path / "out") as target:
        (target / "new").write_text("new", encoding="utf-8")
        assert names(tmp_path / "out") == ["deep"]
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]


def test_a_folder_and_its_parents_are_made(tmp_path: Path) -> None:
    with replaced_directory(tmp_path / "a" / "b") as target:
        (target / "new").touch()
    assert names(tmp_path / "a") == ["b"]


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old", encoding="utf-8")
    with replaced_directory(tmp_path / "out") as target:
        (target / "new").touch()
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_folder_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old", encoding="utf-8")
    with pytest.raises(type(error)):
        fail_in_directory(tmp_path / "out", error)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(error)):
        fail_in_file(path, error)
    assert names(tmp_path) == ["out.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text(path, "old")
    with replaced_file(path) as target:
        target.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["out.txt"]


def test_outputs_have_the_permissions_of_any_other_new_one(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with replaced_directory(tmp_path / "out"):
            pass
        write_text(tmp_path / "out.txt", "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o644


def test_json_has_the_same_bytes_every_time_and_takes_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": ["é", None, 0.1]})
    assert (tmp_path / "a.json").read_bytes() == (
        '{\n  "b": 1,\n  "a": [\n    "é",\n    null,\n    0.1\n  ]\n}\n'.encode()
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert names(tmp_path) == ["a.json"]
