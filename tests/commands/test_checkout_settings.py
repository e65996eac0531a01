from pathlib import Path

from dvc.config import Config

from spacewarps.commands.checkout import _share_cache
from spacewarps.project import init_project


def test_a_working_tree_has_the_cache_and_the_remotes_of_the_project(tmp_path: Path) -> None:
    project, tree = tmp_path / "Prüfung/project", tmp_path / "deeper/down/tree"
    for folder in (project, tree):
        init_project(folder)
    shared, local = project / ".dvc/config", project / ".dvc/config.local"
    shared.write_text(f"{shared.read_text()}\n['remote \"lab\"']\n    url = ../../remote\n")
    local.write_text("[core]\n    remote = own\n['remote \"own\"']\n    url = ../own\n")
    _share_cache(project, tree)
    found = Config(str(tree / ".dvc"))
    assert found["core"]["remote"] == "own"
    assert {name: remote["url"] for name, remote in found["remote"].items()} == {
        "lab": str(project.parent / "remote"),
        "own": str(project / "own"),
    }
    assert found["cache"]["dir"] == str(project / ".dvc/cache")
    assert (tree / ".dvc/config.local").stat().st_mode & 0o077 == 0
