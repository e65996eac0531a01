import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "spacewarps"

TOOLS = {
    "clusters",
    "errors",
    "features",
    "files",
    "formulas",
    "git",
    "importing",
    "interrupts",
    "portability",
    "processes",
    "provenance",
    "reading",
    "resources",
    "seeds",
    "settings",
    "writing",
}
# What each part may import of the project, beside itself and the tools.
MAY_IMPORT: dict[str, set[str]] = {
    "archives": {"survey"},
    "clusters": set(),
    "errors": set(),
    "estimator": {"params", "survey", "model", "training", "search"},
    "features": set(),
    "files": set(),
    "formulas": set(),
    "git": set(),
    "importing": set(),
    "interrupts": set(),
    "own_code": set(),
    "project": {"project_files", "recorded_code"},
    "project_files": set(),
    "recorded_code": set(),
    "portability": set(),
    "processes": set(),
    "provenance": set(),
    "resources": set(),
    "seeds": set(),
    "settings": set(),
    "params": {
        "archives",
        "baselines",
        "evaluation",
        "model",
        "search",
        "simulation",
        "survey",
        "training",
        "yaml_params",
    },
    "progress": set(),
    "reading": set(),
    "writing": set(),
    "yaml_params": set(),
    "simulation": set(),
    "survey": set(),
    "model": set(),
    "training": {"survey", "model"},
    "search": {"survey", "model", "training"},
    "evaluation": {"survey", "model"},
    "baselines": {"survey", "model", "training"},
    "prediction": {"survey", "model", "training"},
    "report": {"evaluation", "survey", "model"},
    "tracking": {
        "survey",
        "model",
        "training",
        "search",
        "prediction",
        "progress",
        "recorded_code",
        "yaml_params",
    },
    "team": {"progress"},
    "testing": {"survey", "model", "training", "search"},
    "stages": {
        "archives",
        "baselines",
        "simulation",
        "survey",
        "model",
        "training",
        "search",
        "evaluation",
        "prediction",
        "report",
        "tracking",
        "params",
        "progress",
        "recorded_code",
        "yaml_params",
    },
    "commands": {
        "survey",
        "model",
        "training",
        "search",
        "evaluation",
        "prediction",
        "tracking",
        "stages",
        "params",
        "progress",
        "project",
        "yaml_params",
    },
    "cli": {
        "own_code",
        "commands",
        "stages",
        "params",
        "progress",
        "project",
        "recorded_code",
        "survey",
        "training",
        "yaml_params",
    },
    "__init__": {"estimator", "survey", "model", "training", "search"},
}
PIPELINE_TOOLS = {"dvc", "mlflow"}
MAY_USE_PIPELINE_TOOLS = {"tracking", "stages", "commands", "cli"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # `from spacewarps import seeds` names the module last.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(sources: Path) -> list[str]:
    found = []
    for path in sorted(sources.rglob("*.py")):
        part = path.relative_to(sources).parts[0].removesuffix(".py")
        for name in imported(path):
            package, *rest = name.split(".")
            if package == "spacewarps" and rest and rest[0] not in {part} | TOOLS | MAY_IMPORT[part]:
                found.append(f"{part} imports {rest[0]}")
            if package in PIPELINE_TOOLS and part not in MAY_USE_PIPELINE_TOOLS:
                found.append(f"{part} imports {package}")
    return found


def test_imports_point_one_way() -> None:
    assert violations(SOURCES) == []


def test_no_stage_writes_without_looking_whether_what_it_began_with_has_changed() -> None:
    for path in (SOURCES / "stages").glob("*.py"):
        if path.stem != "context":
            of_files = {name for name in imported(path) if name.startswith("spacewarps.files")}
            assert of_files <= {"spacewarps.files.check_replaceable"}, path


def test_every_part_has_its_place_in_the_order() -> None:
    parts = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts == MAY_IMPORT.keys()


@pytest.mark.parametrize(
    ("part", "line", "violation"),
    [
        ("survey", "import spacewarps.model.blocks", "survey imports model"),
        ("model", "from spacewarps.training.fit import fit", "model imports training"),
        ("search", "from spacewarps import params", "search imports params"),
        ("evaluation", "def f():\n    from spacewarps.training import fit", "evaluation imports training"),
        ("training", "import mlflow", "training imports mlflow"),
        ("search", "from dvc.api import params_show", "search imports dvc"),
        ("tracking", "from spacewarps.stages.context import Stage", "tracking imports stages"),
    ],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, part: str, line: str, violation: str) -> None:
    (tmp_path / part).mkdir()
    (tmp_path / part / "module.py").write_text(line, encoding="utf-8")
    assert violations(tmp_path) == [violation]
