"""The tree of a run in which DVC runs some stages and leaves others alone, as it tells stages apart from each other."""

import json
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Run

from spacewarps.tracking.hashes import dvc_hash
from spacewarps.tracking.notes import COMPUTED_TAG, OUTPUTS_TAG, PARENT_TAG, STAGE_TAG
from spacewarps.tracking.pipeline_run import stage_run
from spacewarps.tracking.recorded_run import _stages_of
from spacewarps.tracking.tracker import Tracker
from spacewarps.tracking.views import NOTE_TAG
from tests.tracking.runs import all_runs, experiment_of

STAGES = {
    "prepare": {"deps": ["survey"], "outs": ["data"]},
    "search": {"deps": ["data"], "outs": ["found"]},
    "train": {"deps": ["data", "found"], "outs": ["final"], "metrics": ["curves"]},
    "evaluate": {"deps": ["final"], "outs": ["result"]},
}


class Pipeline:
    """Runs stages as DVC does: in one process, each before its entry in the lock."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch, self.seed = folder, patch, 1
        stages = {name: {"cmd": f"spacewarps {name}", **each} for name, each in STAGES.items()}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        (folder / "survey").write_text("sky")
        self.lock: dict[str, object] = {}
        patch.setenv("DVC_STAGE", "one")

    def run(self, name: str, **contents: str) -> tuple[str, ...]:
        """Run the stages that are named, which write what is given, as one run of the pipeline.

        Return what the last of them is warned of.
        """
        self._patch.setenv("DVC_EXP_NAME", name)
        for stage, content in contents.items():
            outs = [*STAGES[stage]["outs"], *STAGES[stage].get("metrics", [])]
            with stage_run(stage, {"seed": self.seed}) as tracked:
                for out in outs:
                    (self.folder / out).write_text(content)
            self.lock[stage] = {
                "deps": [{"path": path, "md5": dvc_hash(self.folder / path)} for path in STAGES[stage]["deps"]],
                "outs": [{"path": path, "md5": dvc_hash(self.folder / path)} for path in outs],
                "params": {"params.yaml": {"seed": self.seed}},
            }
            (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": self.lock}))
        return tracked.warnings

    def tree(self) -> dict[str, dict[str, Run]]:
        """Return what MLflow shows: the runs of stages by the names of the pipeline's run and of the stage."""
        tracker = Tracker(self.folder)
        runs = all_runs(tracker)
        tracker.close("FINISHED")
        tops = {run.info.run_id: str(run.info.run_name) for run in runs if PARENT_TAG not in run.data.tags}
        found: dict[str, dict[str, Run]] = {name: {} for name in tops.values()}
        for run in runs:
            if stage := run.data.tags.get(STAGE_TAG):
                below = found[tops[run.data.tags[PARENT_TAG]]]
                assert stage not in below
                below[stage] = run
        return found


@pytest.fixture
def pipeline(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.chdir(tracked)
    return Pipeline(tracked, monkeypatch)


def origins(stages: dict[str, Run]) -> dict[str, str | None]:
    return {name: run.data.tags.get(COMPUTED_TAG) for name, run in stages.items()}


ALL = {"prepare": "a", "search": "a", "train": "a", "evaluate": "a"}


def test_a_run_that_runs_every_stage_has_each_once_and_computed_all(pipeline: Pipeline) -> None:
    pipeline.run("whole", **ALL)
    assert origins(pipeline.tree()["whole"]) == dict.fromkeys(ALL)


def test_what_dvc_leaves_alone_leads_to_the_run_that_computed_it(pipeline: Pipeline) -> None:
    pipeline.run("whole", **ALL)
    pipeline.run("other", **dict.fromkeys(ALL, "b"))
    pipeline.run("longer", train="c", evaluate="c")
    tree = pipeline.tree()
    other, longer = tree["other"], tree["longer"]
    ids = {name: run.info.run_id for name, run in other.items()}
    assert origins(longer) == {"prepare": ids["prepare"], "search": ids["search"], "train": None, "evaluate": None}
    search = longer["search"]
    assert (search.info.run_name, search.info.status) == ("search, not run", "FINISHED")
    assert search.info.start_time == search.info.end_time
    assert f"[{ids['search']}](#/experiments/" in search.data.tags[NOTE_TAG]
    assert json.loads(search.data.tags[OUTPUTS_TAG]) == {"found": dvc_hash(pipeline.folder / "found")}
    # Only what has run tells of its params and its code.
    client, _ = experiment_of(pipeline.folder)
    parent = client.get_run(search.data.tags[PARENT_TAG])
    assert {run.info.run_name for run in _stages_of(client, parent)} == {"train", "evaluate"}
    # A run that stands for another computes nothing, so that what comes later leads past it.
    pipeline.run("longest", train="d", evaluate="d")
    assert origins(pipeline.tree()["longest"]) == {**origins(longer)}


def test_a_stage_is_told_of_those_before_it_that_ran_with_other_params(pipeline: Pipeline) -> None:
    assert pipeline.run("whole", **ALL) == ()
    # As `dvc repro --single-item` does, or where params are edited between two stages.
    pipeline.seed = 2
    assert pipeline.run("other", train="b") == (
        "The stage prepare ran with other params than stand here: `seed` was 1, not 2",
        "The stage search ran with other params than stand here: `seed` was 1, not 2",
    )


def test_what_no_run_here_has_computed_is_said_not_to_be_recorded(pipeline: Pipeline) -> None:
    pipeline.run("whole", **ALL)
    lock = (pipeline.folder / "dvc.lock").read_text()
    (pipeline.folder / "dvc.lock").write_text(lock.replace(dvc_hash(pipeline.folder / "data"), "f" * 32))
    pipeline.run("longer", search="b")
    assert origins(pipeline.tree()["longer"]) == {"prepare": "not recorded here", "search": None}


def test_stages_behind_one_that_writes_the_same_again_are_shown_as_not_run(pipeline: Pipeline) -> None:
    pipeline.run("whole", **ALL)
    pipeline.run("again", search="a")
    ids = {name: run.info.run_id for name, run in pipeline.tree()["whole"].items()}
    assert origins(pipeline.tree()["again"]) == {**ids, "search": None}
    # A stage that other params make run all the same is shown as run, and no longer as one that was not.
    pipeline.run("then", search="a", train="b", evaluate="b")
    assert origins(pipeline.tree()["then"]) == {
        "prepare": ids["prepare"],
        "search": None,
        "train": None,
        "evaluate": None,
    }


def test_a_stage_typed_by_hand_is_no_run_of_the_pipeline(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.run("whole", **ALL)
    monkeypatch.delenv("DVC_STAGE")
    pipeline.run("by hand", train="b")
    assert pipeline.tree()["by hand"].keys() == {"train"}
