import re
import shutil
from pathlib import Path

import pytest
import yaml

import spacewarps
from spacewarps.provenance import DECIDE_NOTHING, files_that_decide, fingerprint_of_code

ROOT = Path(__file__).parents[1]
PACKAGE = Path(str(spacewarps.__file__)).parent
PIPELINES = ("dvc.yaml", "crossvalidation/dvc.yaml", "prediction/dvc.yaml", "fetching/dvc.yaml")
STAGES = ["simulate", "prepare", "search", "train", "evaluate", "crossvalidate", "predict", "fetch"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "spacewarps"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def watched_by_dvc(stage: str) -> set[Path]:
    """Return the modules that ``dvc.yaml`` lists for a stage, those of whole folders included."""
    pipelines = [yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["stages"] for name in PIPELINES]
    deps = {name: each for stages in pipelines for name, each in stages.items()}[stage]["deps"]
    places = [ROOT / dep for dep in deps if dep.startswith("src/")]
    return {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_watches_the_modules_that_decide_a_stage_and_no_others(stage: str) -> None:
    # A package's own file comes with its folder; those that are nothing but a sentence decide nothing.
    sentences = {
        file for file in (ROOT / "src").rglob("__init__.py") if file.read_text(encoding="utf-8").count("\n") == 1
    }
    deciding = set(files_that_decide(f"stages.{stage}", ROOT / "src" / "spacewarps"))
    assert watched_by_dvc(stage) - sentences == deciding - sentences


def test_every_module_that_decides_nothing_is_there() -> None:
    for name in DECIDE_NOTHING:
        path = PACKAGE.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").exists(), name


def names(module: str, root: Path) -> set[str]:
    return {file.relative_to(root).as_posix() for file in files_that_decide(module, root)}


def test_every_way_to_import_is_followed_and_what_decides_nothing_is_not(copy: Path) -> None:
    (copy / "stages" / "made_up.py").write_text(
        "import spacewarps.seeds\n"
        "from spacewarps import features\n"
        "from spacewarps.errors import SpaceWarpsError\n"
        "from spacewarps.search.executors.inline import InlineExecutor\n"
        "def later():\n"
        "    from spacewarps.search.strategies import STRATEGIES\n"
    )
    found = names("stages.made_up", copy)
    assert {"stages/made_up.py", "seeds.py", "features.py"} <= found
    assert {"search/strategies/__init__.py", "search/strategies/pnas.py", "model/settings.py"} <= found
    assert not {name for name in found if name.startswith(("errors", "search/executors"))}


def test_the_hash_changes_with_any_file_that_decides_and_with_no_other(copy: Path) -> None:
    before = fingerprint_of_code("search.candidate", copy)
    deciding = names("search.candidate", copy)
    for file in sorted(copy.rglob("*.py")):
        code = file.read_bytes()
        file.write_bytes(code + b"# changed\n")
        if file.relative_to(copy).as_posix() in deciding:
            assert fingerprint_of_code("search.candidate", copy) != before, file
            file.write_bytes(code)
    # All others are changed by now.
    assert fingerprint_of_code("search.candidate", copy) == before
    (copy / "features.py").rename(copy / "renamed.py")
    assert fingerprint_of_code("search.candidate", copy) != before


def test_no_module_that_decides_imports_in_a_way_that_cannot_be_read() -> None:
    for stage in STAGES:
        for file in files_that_decide(f"stages.{stage}"):
            assert not {"importlib", "__import__"} & set(re.findall(r"\w+", file.read_text("utf-8"))), file
