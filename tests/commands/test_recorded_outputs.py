from pathlib import Path

from spacewarps.commands.recorded_outputs import commits_with, differing_outputs, read_outputs
from spacewarps.git import run_git

LOCK = """
schema: '2.0'
stages:
  prepare:
    cmd: spacewarps prepare
    outs:
    - path: data/prepared
      hash: md5
      md5: aaa.dir
"""
OTHER = LOCK.replace("prepare:", "crossvalidate:").replace("data/prepared", "reports/cv.csv").replace("aaa.dir", "bbb")


def test_outputs_stand_in_any_of_the_locks() -> None:
    outputs = {"data/prepared": "aaa.dir", "reports/cv.csv": "bbb"}
    assert differing_outputs(outputs, LOCK, OTHER) == []
    assert differing_outputs(outputs, OTHER) == ["data/prepared"]
    assert differing_outputs({**outputs, "reports/cv.csv": "ccc"}, LOCK, OTHER) == ["reports/cv.csv"]


def test_what_is_no_lock_has_no_outputs() -> None:
    assert read_outputs("") == read_outputs("stages: 3") == read_outputs("{") == {}
    assert differing_outputs({"data/prepared": "aaa.dir"}, "") == ["data/prepared"]


def test_a_commit_has_a_hash_that_the_one_before_had_as_well(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "--quiet")
    run_git(tmp_path, "config", "user.name", "A")
    run_git(tmp_path, "config", "user.email", "a@example.org")
    commits: list[str] = []
    # An experiment that found the same network again, by another search; and one that found another.
    for search in ("of three steps", "of two steps"):
        (tmp_path / "dvc.lock").write_text(f"{LOCK}# {search}\n")
        run_git(tmp_path, "add", "dvc.lock")
        run_git(tmp_path, "commit", "--quiet", "--message", search)
        commits.insert(0, run_git(tmp_path, "rev-parse", "HEAD").stdout.strip())
    (tmp_path / "dvc.lock").write_text(LOCK.replace("aaa", "ccc"))
    run_git(tmp_path, "commit", "--quiet", "--all", "--message", "another")
    found = list(commits_with("aaa.dir", tmp_path, [Path("dvc.lock"), Path("crossvalidation/dvc.lock")]))
    assert found == [
        (commits[0], [f"{LOCK}# of two steps\n", ""]),
        (commits[1], [f"{LOCK}# of three steps\n", ""]),
    ]
