import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from spacewarps.errors import DependenciesChangedError
from spacewarps.params import load_params
from spacewarps.project import init_project
from spacewarps.stages.dependencies import Dependencies

ROOT = Path(__file__).parents[2]
PARAMS = Path("params.yaml")
TOLD = (
    ", so DVC would record what did not make the result: nothing is written; put back what was there, or run again as "
    "it is"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of params, pipelines, code and two inputs, which is the current one."""
    for name in (PARAMS, "dvc.yaml", "crossvalidation/dvc.yaml", "src/spacewarps"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for name in ("data/prepared/samples.csv", "data/demo/catalog/deep/cat.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("id\n1\n")
    monkeypatch.chdir(tmp_path)
    change("optimiser", learning_rate=0.003)
    change("search", max_layers=5)
    change("train", epochs=20)
    return tmp_path


def now(stage: str) -> Dependencies:
    return Dependencies.of(stage, load_params(PARAMS))


def change(section: str, **values: object) -> None:
    params: dict[str, Any] = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params[section] |= values
    PARAMS.write_text(yaml.safe_dump(params), encoding="utf-8")


def told(began_with: Dependencies) -> str:
    """Return what is said of a change: one line, which ends in what to do."""
    with pytest.raises(DependenciesChangedError) as caught:
        began_with.check_unchanged()
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.endswith(TOLD)
    return line.removesuffix(TOLD)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("stage", "section", "values", "expected"),
    [
        (
            "search",
            "optimiser",
            {"learning_rate": 0.01},
            "optimiser.learning_rate was 0.003 when this began and is 0.01 now",
        ),
        ("search", "search", {"max_layers": 1}, "search.max_layers was 5 when this began and is 1 now"),
        (
            "prepare",
            "data",
            {"missing_codes": {"z": [99.5]}},
            "data.missing_codes.z was not there when this began and is [99.5] now",
        ),
        ("crossvalidate", "train", {"epochs": 1}, "train.epochs was 20 when this began and is 1 now"),
    ],
)
def test_a_param_of_the_stage_that_has_changed_is_named_with_both_values(
    stage: str, section: str, values: dict[str, object], expected: str
) -> None:
    began_with = now(stage)
    began_with.check_unchanged()
    change(section, **values)
    assert told(began_with) == expected


def test_of_several_changes_the_first_is_named(project: Path) -> None:
    began_with = now("train")
    change("train", epochs=1)
    (project / "data/prepared/samples.csv").unlink()
    (project / "src/spacewarps/seeds.py").unlink()
    assert told(began_with) == "train.epochs was 20 when this began and is 1 now (and 2 more)"


@pytest.mark.usefixtures("project")
def test_what_has_been_put_back_has_not_changed() -> None:
    began_with, before = now("search"), PARAMS.read_text(encoding="utf-8")
    change("optimiser", learning_rate=0.01)
    told(began_with)
    PARAMS.write_text(before, encoding="utf-8")
    began_with.check_unchanged()


def test_what_dvc_does_not_record_of_the_stage_may_change(project: Path) -> None:
    began_with = now("search")
    change("search", executor="inline", workers=1)
    change("train", epochs=1)
    change("paths", journal=".spacewarps/elsewhere")
    PARAMS.write_text(f"# A comment.\n{PARAMS.read_text(encoding='utf-8')}", encoding="utf-8")
    for name in ("src/spacewarps/commands/result.py", "src/spacewarps/model/notes.txt", "dvc.yaml"):
        (project / name).write_text("")
    (project / "src/spacewarps/model/__pycache__").mkdir()
    (project / "src/spacewarps/model/__pycache__/blocks.pyc").touch()
    (project / "data/demo/catalog/deep/cat.csv").unlink()
    began_with.check_unchanged()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file; run from the folder that holds params.yaml"),
        ("a: [", "not valid YAML: "),
        ("seed: one", "seed is 'one', but "),
    ],
)
def test_params_that_can_no_longer_be_used_have_changed(text: str | None, why: str) -> None:
    began_with = now("search")
    PARAMS.unlink()
    if text is not None:
        PARAMS.write_text(text, encoding="utf-8")
    assert told(began_with).startswith(f"params.yaml was valid when this began and is not now ({why}")


@pytest.mark.parametrize("stage", ["search", "crossvalidate"])
def test_code_is_known_by_what_it_says(project: Path, stage: str) -> None:
    began_with = now(stage)
    for module in (project / "src/spacewarps").rglob("*.py"):
        os.utime(module, (1, 1))
    began_with.check_unchanged()
    for name in ("seeds.py", "training/fit.py"):
        module = project / "src/spacewarps" / name
        code = module.read_text(encoding="utf-8")
        module.write_text(f"{code}# changed\n", encoding="utf-8")
        assert told(began_with) == f"src/spacewarps/{name} has been changed since this began"
        module.write_text(code, encoding="utf-8")
    module = project / "src/spacewarps/model/another.py"
    module.touch()
    assert told(began_with) == "src/spacewarps/model/another.py has been added since this began"


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("prepare", "data/demo/catalog/deep/cat.csv"),
        ("search", "data/prepared/samples.csv"),
        ("crossvalidate", "data/prepared/samples.csv"),
    ],
)
def test_an_input_that_has_been_replaced_is_named(project: Path, stage: str, name: str) -> None:
    began_with, place, before = now(stage), project / name, (project / name).stat().st_mtime_ns
    place.write_text("id\n2\n")
    os.utime(place, ns=(before, before + 1))
    assert told(began_with) == f"{name} has been changed since this began"
    place.write_text("id\n1\n2\n")
    os.utime(place, ns=(before, before))
    assert told(began_with) == f"{name} has been changed since this began"
    place.rename(place.with_name("a.csv"))
    assert told(began_with) == f"{Path(name).with_name('a.csv')} has been added since this began (and 1 more)"


def test_inputs_are_where_the_params_say(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    survey = tmp_path_factory.mktemp("survey") / "cat.csv"
    survey.write_text("id\n1\n")
    change("data", catalog=str(survey))
    began_with = now("prepare")
    (project / "data/demo/catalog/deep/cat.csv").unlink()
    began_with.check_unchanged()
    survey.unlink()
    assert told(began_with) == f"{survey} has been removed since this began"


@pytest.mark.parametrize("pipeline", [None, "[", "stages: 5", "stages: {prepare: {params: [seed]}}"])
def test_without_an_entry_in_dvc_yaml_all_params_count_and_nothing_else(project: Path, pipeline: str | None) -> None:
    Path("dvc.yaml").unlink()
    if pipeline is not None:
        Path("dvc.yaml").write_text(pipeline, encoding="utf-8")
    began_with = now("search")
    (project / "src/spacewarps/seeds.py").unlink()
    (project / "data/prepared/samples.csv").unlink()
    began_with.check_unchanged()
    change("train", epochs=1)
    assert told(began_with) == "train.epochs was 20 when this began and is 1 now"


def test_a_project_without_code_depends_on_the_hash_that_it_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_project(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    began_with, crossvalidation = now("search"), now("crossvalidate")
    code = Path("code.json")
    recorded = yaml.safe_load(code.read_text(encoding="utf-8"))
    code.write_text(yaml.safe_dump(recorded | {"version": "9", "train": "0"}), encoding="utf-8")
    began_with.check_unchanged()
    code.write_text(yaml.safe_dump(recorded | {"search": "0", "crossvalidate": "1"}), encoding="utf-8")
    assert told(began_with) == f"code.json: search was {recorded['search']!r} when this began and is '0' now"
    assert told(crossvalidation).startswith("code.json: crossvalidate was ")
    code.unlink()
    assert told(began_with).startswith("code.json was valid when this began and is not now (")


def test_a_project_without_code_depends_on_the_installed_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = project / "src/spacewarps"
    monkeypatch.setattr("spacewarps.provenance.__file__", str(installed / "provenance.py"))
    init_project(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    began_with = now("search")
    began_with.check_unchanged()
    (installed / "commands/result.py").write_text("")
    began_with.check_unchanged()
    (installed / "seeds.py").write_text("")
    assert told(began_with) == f"{installed / 'seeds.py'} has been changed since this began"
