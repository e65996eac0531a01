import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from spacewarps.cli import main
from spacewarps.project import init_project
from spacewarps.tracking import registry
from spacewarps.tracking.hashes import dvc_hash
from spacewarps.tracking.registry import Registry
from spacewarps.tracking.turns import turn
from tests.pipeline.conftest import SpacewarpsHere, project_on
from tests.pipeline.project import Project

NAME = "space-warps"
FILES = {"MLmodel", "model.safetensors"}


def client_of(project: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")


def champion(project: Project) -> ModelVersion:
    return client_of(project).get_model_version_by_alias(NAME, "champion")


def number_of_champion(project: Project) -> int:
    return int(champion(project).version)


def run_stages(project: Project, *stages: str, **train: object) -> None:
    """Run stages in this process, with other params of ``train``, and record all in DVC."""
    params = project.params()
    project.write_params(params | {"train": params["train"] | train})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "DVC_STAGE", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
            # Set first, or it would not be taken back what MLflow sets meanwhile.
            patch.setenv(name, "")
            patch.delenv(name)
        patch.chdir(project.folder)
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        assert [main([stage]) for stage in stages] == [0] * len(stages)
        for number, handler in before.items():
            signal.signal(number, handler)
    project.dvc("commit", "--force", "dvc.yaml")


@pytest.fixture(scope="module")
def trained(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project under git and DVC whose network has learned for one epoch."""
    project = project_on(prepared_folder, tmp_path_factory.mktemp("trained") / "project")
    params = project.params()
    (project.folder / "params.yaml").unlink()
    init_project(project.folder)
    # The survey is there already.
    pipeline = yaml.safe_load((project.folder / "dvc.yaml").read_text(encoding="utf-8"))
    del pipeline["stages"]["simulate"]
    pipeline["stages"]["prepare"] = {"cmd": "true", "params": ["seed"], "outs": [{"data/prepared": {"persist": True}}]}
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    project.write_params(params)
    run_stages(project, "search", "train", "evaluate", epochs=1)
    project.commit("Train")
    return project


@pytest.fixture
def poor(trained: Project, tmp_path: Path) -> Project:
    """A copy of that project."""
    return trained.copy(tmp_path / "project")


def test_a_champion_is_replaced_by_what_beats_it_and_returns_by_one_command(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    status, said, errors = spacewarps_here(poor, "promote", "--back")
    assert (status, said) == (2, "")
    assert errors == "spacewarps promote: space-warps has no champion in MLflow; `spacewarps promote` makes one\n"

    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (0, "")
    assert said.startswith("version 1 of space-warps is the champion, as there is no other: log loss ")
    first = champion(poor)
    lock = {out["path"]: out["md5"] for out in poor.lock()["stages"]["evaluate"]["deps"]}
    assert number_of_champion(poor) == 1
    assert first.tags["model.hash"] == lock["models/final"] == dvc_hash(poor.folder / "models/final")
    assert first.tags["data.hash"] == lock["data/prepared"]
    assert first.tags["git.commit"] == poor.git("rev-parse", "HEAD").strip()
    assert "git.uncommitted" not in first.tags
    metrics = json.loads((poor.folder / "reports/metrics.json").read_text())["test"]
    assert first.tags["test.log_loss"] == f"{metrics['log_loss']:.6f}"
    assert first.description == first.tags["spacewarps.decision"] == said.strip()
    trained = [run for run in poor.runs() if run.data.tags.get("spacewarps.stage") == "train"]
    assert [run.info.run_id for run in trained] == [first.run_id]
    status, said, _ = spacewarps_here(poor, "promote")
    assert (status, said) == (0, "version 1 of space-warps is this network, and the champion already\n")
    status, _, errors = spacewarps_here(poor, "promote", "--back")
    assert status == 2
    assert "version 1 of space-warps is the first champion: there is none before" in errors

    run_stages(poor, "train", "evaluate", epochs=30)
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (0, "")
    sentence = (
        r"version 2 of space-warps is the champion in place of version 1: log loss 0\.\d{4}, \d\.\d{4} \+- 0\.\d{4} "
        r"lower, which is more than noise at 95% confidence; accuracy .* "
        r"\(30 test samples of 15 sources, paired by sample\)\n"
    )
    assert re.fullmatch(sentence, said)
    second = champion(poor)
    assert (int(second.version), second.tags["spacewarps.champion_before"]) == (2, "1")
    assert second.tags["git.uncommitted"] == "dvc.lock, params.yaml"

    status, said, errors = spacewarps_here(poor, "promote", "--back")
    assert (status, errors) == (0, "")
    assert said == "version 1 of space-warps is the champion again, in place of version 2\n"
    assert number_of_champion(poor) == 1
    assert client_of(poor).get_model_version(NAME, "2").description == said.strip()

    # Known, and decided anew.
    status, said, _ = spacewarps_here(poor, "promote")
    assert (status, number_of_champion(poor)) == (0, 2)


def test_a_model_in_mlflow_is_compared_as_the_commit_that_has_it(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    address = f"models:/{NAME}@champion"
    status, _, errors = spacewarps_here(poor, "compare", address)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"{address}: MLflow has no such version; `spacewarps promote` registers one" in errors

    assert spacewarps_here(poor, "promote")[0] == 0
    commit = poor.git("rev-parse", "HEAD").strip()
    run_stages(poor, "train", "evaluate", epochs=30)
    assert spacewarps_here(poor, "promote")[0] == 0
    status, said, errors = spacewarps_here(poor, "compare", f"models:/{NAME}/1")
    assert (status, errors) == (0, "")
    assert said.splitlines()[:2] == [f"A: models:/{NAME}/1 ({commit[:7]})", "B: workspace"]
    assert ["train.epochs", "1", "30"] in [line.split() for line in said.splitlines()]
    assert " lower: better, by more than noise\n" in said

    # The second is in no commit yet.
    status, _, errors = spacewarps_here(poor, "compare", address)
    assert (status, errors.count("\n")) == (2, 1)
    assert (
        f"{address}: no commit here has the network of version 2 in its dvc.lock; commit it, or `git fetch`" in errors
    )
    poor.commit("Train longer")
    status, said, _ = spacewarps_here(poor, "compare", address)
    assert status == 0
    assert {"params: the same", "data: the same"} <= set(said.splitlines())
    for wrong in ("models:/", f"models:/{NAME}", f"models:/{NAME}@", f"models:/{NAME}/one"):
        status, _, errors = spacewarps_here(poor, "compare", wrong)
        assert (status, errors.count("\n")) == (2, 1)
        assert "names no model; write models:/NAME@champion, or models:/NAME/NUMBER" in errors


def test_what_is_no_better_is_registered_and_refused_with_its_figures(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(poor, "promote")[0] == 0
    # The same weights, less sure of themselves by a hair.
    run_stages(poor, "train", "evaluate", epochs=1, calibration="temperature")
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors, said.count("\n")) == (1, "", 1)
    assert said.startswith("version 2 of space-warps does not replace the champion, version 1: log loss ")
    assert number_of_champion(poor) == 1
    assert client_of(poor).get_model_version(NAME, "2").description == said.strip()


@pytest.mark.long
def test_of_two_promotions_at_once_the_second_meets_the_first(poor: Project, tmp_path: Path) -> None:
    good = poor.copy(tmp_path / "good")
    run_stages(good, "train", "evaluate", epochs=30)
    uri = f"sqlite:///{poor.folder}/mlflow.db"
    registry = Registry(client_of(poor), "", NAME)
    registry.open()
    # Both come to it while another promotion is under way, so that they go on side by side.
    with turn(registry):
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "spacewarps.cli", "promote"],
                cwd=project.folder,
                env={**project.environment, "MLFLOW_TRACKING_URI": uri},
                stdout=subprocess.PIPE,
                text=True,
            )
            for project in (poor, good)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("another promotion of space-warps is under way")
        time.sleep(5)
        assert registry.champion() is None
    said = [process.communicate()[0] for process in started]
    assert sum("is the champion, as there is no other" in told for told in said) == 1, said
    met = ("the champion in place of version 1", "does not replace the champion, version 1")
    assert sum(any(words in told for words in met) for told in said) == 1, said
    assert champion(poor).tags["model.hash"] == dvc_hash(good.folder / "models/final")


def with_other_features(project: Project) -> None:
    """Let the survey have one feature less, and a new search for it."""
    path = project.folder / "data/prepared"
    description = json.loads((path / "survey.json").read_text())
    (path / "survey.json").write_text(json.dumps(description | {"features": ["z"]}))
    samples = pd.read_csv(path / "samples.csv", dtype=str, keep_default_na=False)
    samples.drop(columns="z_err").to_csv(path / "samples.csv", index=False)


def with_other_test_samples(project: Project) -> None:
    """Let the test split have two sources that were learned from."""
    path = project.folder / "data/prepared/samples.csv"
    samples = pd.read_csv(path, dtype=str, keep_default_na=False)
    samples.loc[samples["source"].isin(samples["source"].unique()[:2]), "split"] = "test"
    samples.to_csv(path, index=False)


@pytest.mark.long
def test_a_champion_of_another_test_split_is_asked_about_this_one(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(poor, "promote")[0] == 0
    with_other_test_samples(poor)
    run_stages(poor, "train", "evaluate", epochs=30)
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (0, "")
    assert "(34 test samples of 17 sources, paired by sample)" in said
    assert said.endswith(
        "; version 1 was tested on other samples and may have learned from some of these, which favours it\n"
    )


@pytest.mark.long
def test_a_champion_for_other_features_is_compared_by_the_answers_it_left(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(poor, "promote")[0] == 0
    with_other_features(poor)
    run_stages(poor, "search", "train", "evaluate", epochs=30)
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (0, ""), said
    assert said.startswith("version 2 of space-warps is the champion in place of version 1: log loss ")
    assert "(30 test samples of 15 sources, paired by sample)\n" in said

    # Of another split, there is nothing that could be compared.
    with_other_test_samples(poor)
    client_of(poor).set_registered_model_alias(NAME, "champion", "1")
    run_stages(poor, "train", "evaluate", epochs=31)
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (1, "")
    assert said == (
        "version 3 of space-warps does not replace the champion, version 1, as the two cannot be compared: the network "
        "was made for features z, z_err, but the survey has z, and its answers are for other test samples; to begin "
        "anew, take the alias champion from version 1 in MLflow\n"
    )
    assert number_of_champion(poor) == 1


def test_a_champion_whose_network_was_altered_in_mlflow_is_not_asked(
    poor: Project, spacewarps_here: SpacewarpsHere, tmp_path: Path
) -> None:
    assert spacewarps_here(poor, "promote")[0] == 0
    registered = champion(poor)
    place = Path(client_of(poor).get_model_version_download_uri(NAME, str(registered.version)).removeprefix("file://"))
    description = place / "artifacts/final/model.json"
    before = description.read_text()
    kept = client_of(poor).get_run(registered.run_id or "").info.artifact_uri or ""
    answers = Path(kept.removeprefix("file://"), "promotion", "1", "predictions.csv")
    run_stages(poor, "train", "evaluate", epochs=1, calibration="temperature")
    description.write_text(before + " ")
    status, told_with_answers, _ = spacewarps_here(poor, "promote")
    assert (status, "paired by sample" in told_with_answers) == (1, True), told_with_answers
    answers.rename(tmp_path / "predictions.csv")
    status, said, errors = spacewarps_here(poor, "promote")
    (tmp_path / "predictions.csv").rename(answers)
    description.write_text(before)
    assert (status, errors) == (1, "")
    assert "the network of version 1 in MLflow is not the one that was registered, and it has left no answers" in said
    assert number_of_champion(poor) == 1


def test_a_store_that_fails_is_no_verdict_on_the_champion(
    poor: Project, spacewarps_here: SpacewarpsHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spacewarps_here(poor, "promote")[0] == 0
    run_stages(poor, "train", "evaluate", epochs=1, calibration="temperature")

    def no_artifacts(**_options: object) -> object:
        raise ConnectionError("S3 is away")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "list_artifacts", no_artifacts)
        patch.setattr(registry, "download_artifacts", no_artifacts)
        status, said, errors = spacewarps_here(poor, "promote")
    assert (status, said, errors.count("\n")) == (2, "", 1)
    assert "failed (S3 is away)" in errors
    assert "spacewarps.decision" not in client_of(poor).get_model_version(NAME, "2").tags
    # What is gone is one.
    shutil.rmtree(poor.folder / "mlartifacts")
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (1, "")
    assert "version 1 of space-warps in MLflow holds no network of this project, and it has left no answers" in said


def test_a_network_that_no_run_here_has_logged_is_logged_first(poor: Project, spacewarps_here: SpacewarpsHere) -> None:
    (poor.folder / "mlflow.db").unlink()
    shutil.rmtree(poor.folder / "mlartifacts")
    assert spacewarps_here(poor, "promote")[0] == 0
    run = client_of(poor).get_run(champion(poor).run_id or "")
    assert run.data.tags["spacewarps.stage"] == "promote"


def files_of_champion(project: Project) -> list[str]:
    uri = client_of(project).get_model_version_download_uri(NAME, str(champion(project).version))
    place = Path(uri.removeprefix("file://"))
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.name in FILES)


def test_no_network_whose_files_are_gone_from_mlflow_becomes_champion(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    whole = ["MLmodel", "artifacts/final/model.safetensors"]
    # It lets the database of the copy name the copy's files.
    assert spacewarps_here(poor, "promote", "--back")[0] == 2
    shutil.rmtree(poor.folder / "mlartifacts")
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (0, "")
    assert "version 1 of space-warps is the champion, as there is no other: log loss " in said
    assert files_of_champion(poor) == whole
    # Once they are lost, the same network takes its own place; also where only the weights are.
    for path in (poor.folder / "mlartifacts").rglob("model.safetensors"):
        path.write_bytes(b"")
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, errors) == (0, "")
    assert said.endswith(
        "version 1 of space-warps is this network, but its files are gone from MLflow\n"
        "version 2 of space-warps is the champion in place of version 1, which is the same network and has lost its "
        "files\n"
    )
    assert (number_of_champion(poor), files_of_champion(poor)) == (2, whole)


def test_the_champion_does_not_go_back_to_one_whose_files_are_gone(
    poor: Project, spacewarps_here: SpacewarpsHere
) -> None:
    assert spacewarps_here(poor, "promote")[0] == 0
    client = client_of(poor)
    first = champion(poor)
    client.create_model_version(NAME, first.source or "", tags={"spacewarps.champion_before": "1"})
    client.set_registered_model_alias(NAME, "champion", "2")
    shutil.rmtree(poor.folder / "mlartifacts")
    status, said, errors = spacewarps_here(poor, "promote", "--back")
    assert (status, said) == (2, "")
    assert errors == (
        "spacewarps promote: version 1 of space-warps, the champion before, has lost its files in MLflow; put its "
        "artifacts back from a copy (version 2 stays the champion)\n"
    )
    assert number_of_champion(poor) == 2


def other_network(project: Project) -> None:
    shutil.copytree(project.folder / "models/search", project.folder / "models/final", dirs_exist_ok=True)


def other_samples(project: Project) -> None:
    with (project.folder / "data/prepared/samples.csv").open("a") as file:
        file.write("\n")


def other_metrics(project: Project) -> None:
    path = project.folder / "reports/metrics.json"
    path.write_text(path.read_text() + "\n")


def other_artifacts(project: Project, artifacts: object) -> None:
    path = project.folder / "dvc.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"artifacts": artifacts}))


def no_artifact(project: Project) -> None:
    other_artifacts(project, {})


def hostile_name(project: Project) -> None:
    other_artifacts(project, {"a' or '1": {"path": "models/final"}})


def no_artifact_at_all(project: Project) -> None:
    other_artifacts(project, 5)


def no_answers(project: Project) -> None:
    (project.folder / "reports/report/predictions.csv").unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_network, "models/final is not what dvc.lock says of the last evaluation; run `dvc repro`, or"),
        (other_samples, "data/prepared is not what dvc.lock says of the last evaluation; run `dvc repro`, or"),
        (other_metrics, "reports/metrics.json is not what dvc.lock says of the last evaluation; run `dvc repro`, or"),
        (no_artifact, "dvc.yaml names no artifact with path models/final, whose name the model has in MLflow"),
        (hostile_name, "should have a name of letters, digits, _ and -"),
        (no_artifact_at_all, "dvc.yaml"),
        (no_answers, "reports/report/predictions.csv is not there; run `dvc repro` first"),
    ],
)
def test_what_is_not_the_recorded_result_is_refused_in_one_line(
    poor: Project, spacewarps_here: SpacewarpsHere, change: Callable[[Project], None], told: str
) -> None:
    change(poor)
    status, said, errors = spacewarps_here(poor, "promote")
    assert (status, said, errors.count("\n")) == (2, "", 1)
    assert told in errors
