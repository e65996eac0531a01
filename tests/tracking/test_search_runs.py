import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run

from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import Candidate, CandidateResult, FoldResult, History
from spacewarps.tracking.pipeline_run import StageRun
from spacewarps.tracking.search_runs import SearchRuns
from spacewarps.tracking.tracker import Tracker
from spacewarps.training.score import Epoch, Score
from tests.search.results import TEN_WRONG, step_of
from tests.tracking.runs import all_runs, client_of, run_of


@pytest.fixture(scope="module")
def tracker(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = Path(shutil.copy(tables, tmp_path_factory.mktemp("mlflow"))).parent
        tracker = Tracker(folder)
    yield tracker
    tracker.close("FINISHED")


@pytest.fixture
def stage(tracker: Tracker) -> StageRun:
    top, search = tracker.start_run("pipeline", None, {}), tracker.start_run("search", None, {})
    return StageRun(tracker, top, search, "wider")


def result(candidate: Candidate, accuracies: list[float], *, finished: bool = True) -> CandidateResult:
    epochs = tuple(Epoch(number, 1.0, Score(a, 1 - a)) for number, a in enumerate(accuracies, start=1))
    return CandidateResult(candidate, 1, 100 + candidate.block.k, (FoldResult(epochs, TEN_WRONG),), None, finished)


def below(stage: StageRun, run_id: str) -> dict[str, Run]:
    runs = all_runs(stage.tracker)
    found = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == run_id]
    return {run.info.run_name: run for run in found}


def test_candidates_that_run_side_by_side_each_have_their_run_below_their_step(stage: StageRun) -> None:
    watcher = SearchRuns(stage)
    first, second = Candidate(1, BlockSpec(4), 7), Candidate(1, BlockSpec(8, "residual", 5), 8, trunk=1)
    watcher.search_started(2)
    watcher.step_started(1, [first, second], 1000)
    watcher.candidate_started(first)
    watcher.candidate_started(second)
    ends = [result(second, [0.25, 0.75]), result(first, [0.5], finished=False)]
    for end in ends:
        watcher.candidate_finished(end)
    watcher.step_finished(step_of(1, ends[::-1], [ends[0]]))
    history = History((step_of(1, ends[::-1], [ends[0]]),))
    watcher.search_finished(history)

    (step,) = below(stage, run_of(stage.tracker, stage.run_id).info.run_id).values()
    assert step.info.run_name == "step 1"
    assert step.data.params == {"step": "1", "candidates": "conv k=4, residual 5x5 k=8 on trunk 2"}
    assert step.data.metrics == {"score": 0.75}
    assert step.data.tags["spacewarps.chosen"] == "residual 5x5 k=8 on trunk 2"
    runs = below(stage, step.info.run_id)
    assert runs.keys() == {"conv k=4", "residual 5x5 k=8 on trunk 2, joined"}
    assert runs["conv k=4"].data.params == {
        "step": "1",
        "trunk": "1",
        "kind": "conv",
        "k": "4",
        "kernel_size": "3",
        "epochs": "1",
        "joined": "no",
    }
    assert runs["conv k=4"].data.tags["spacewarps.seed"] == "7"
    assert runs["conv k=4"].data.tags["spacewarps.experiment"] == "wider"
    other = runs["residual 5x5 k=8 on trunk 2, joined"]
    assert (other.data.params["joined"], other.data.tags["spacewarps.joined"]) == ("yes", "yes")
    assert 0 <= other.data.metrics["seconds"] < 60
    assert (other.data.params["kind"], other.data.params["kernel_size"], other.data.params["trunk"]) == (
        "residual",
        "5",
        "2",
    )
    curve = client_of(stage.tracker).get_metric_history(other.info.run_id, "val_accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.25), (2, 0.75)]
    assert (other.data.metrics["score"], other.data.metrics["trainable_params"]) == (0.75, 108)
    assert {run.info.status for run in (step, *runs.values())} == {"FINISHED"}
    top = run_of(stage.tracker, stage.run_id).data
    assert top.metrics["num_layers"] == 1
    assert top.tags["spacewarps.architecture"] == "residual 5x5 k=8 on trunk 2"


def test_a_control_is_a_run_of_its_step_and_no_candidate(stage: StageRun) -> None:
    watcher = SearchRuns(stage)
    on_trial, control = Candidate(2, BlockSpec(8), 8), Candidate(2, BlockSpec(4), 9, control=True)
    watcher.step_started(2, [on_trial, control], 1000)
    ends = [result(on_trial, [0.5]), result(control, [0.25, 0.75])]
    for end in ends:
        watcher.candidate_started(end.candidate)
        watcher.candidate_finished(end)
    step = replace(step_of(2, ends[:1], ends[:1]), control=ends[1])
    watcher.step_finished(step)
    watcher.search_finished(History((step,)))
    (of_step,) = below(stage, run_of(stage.tracker, stage.run_id).info.run_id).values()
    runs = below(stage, of_step.info.run_id)
    assert runs.keys() == {"conv k=8, joined", "control"}
    told = runs["control"].data
    assert told.params == {"step": "2", "epochs": "2"}
    assert (told.metrics["score"], told.metrics["val_loss"], told.metrics["trainable_params"]) == (0.75, 0.25, 104)
    # The view of candidates goes by this tag.
    assert told.tags["spacewarps.level"] == "control"
    assert runs["control"].info.status == "FINISHED"
    assert "spacewarps.joined" not in told.tags


def test_a_step_names_all_that_grow_on_and_how_well_they_were_predicted(stage: StageRun) -> None:
    watcher = SearchRuns(stage)
    candidates = [Candidate(2, BlockSpec(k), k) for k in (1, 2, 3)]
    watcher.step_started(2, candidates, 1000)
    ends = [result(candidate, [candidate.block.k / 4]) for candidate in candidates]
    for end in ends:
        watcher.candidate_started(end.candidate)
        watcher.candidate_finished(end)
    watcher.step_finished(step_of(2, ends, [ends[2], ends[1]], [0.3, 0.2, 0.1]))
    watcher.step_started(3, candidates[:1], 1000)
    watcher.candidate_started(candidates[0])
    watcher.candidate_finished(ends[0])
    watcher.step_finished(step_of(3, [ends[0]], [], [0.4]))
    steps = below(stage, run_of(stage.tracker, stage.run_id).info.run_id)
    assert steps["step 2"].data.tags["spacewarps.chosen"] == "conv k=3 + conv k=2"
    assert steps["step 2"].data.metrics["predictor_rank_correlation"] == pytest.approx(-1)
    assert steps["step 3"].data.tags["spacewarps.chosen"] == "none: no gain"
    assert "predictor_rank_correlation" not in steps["step 3"].data.metrics


def test_a_block_that_comes_in_with_a_later_one_has_joined_as_well(stage: StageRun) -> None:
    watcher = SearchRuns(stage)
    first = result(Candidate(1, BlockSpec(4), 7), [0.5])
    second = replace(result(Candidate(2, BlockSpec(8), 8), [0.5]), parent=first)
    third = replace(result(Candidate(3, BlockSpec(16), 9), [0.75]), parent=second)
    told = []
    for number, end, kept in ((1, first, [first]), (2, second, []), (3, third, [third])):
        watcher.step_started(number, [end.candidate], 1000)
        watcher.candidate_started(end.candidate)
        watcher.candidate_finished(end)
        watcher.step_finished(step_of(number, [end], kept))
        of_second = watcher._ended.get(second.candidate)
        told.append(of_second and run_of(stage.tracker, of_second).data.tags["spacewarps.joined"])
    assert told == [None, "no", "yes"]
    watcher.search_finished(History(tuple(step_of(end.candidate.step, [end], [end]) for end in (first, second, third))))
    steps = below(stage, run_of(stage.tracker, stage.run_id).info.run_id)
    (run,) = below(stage, steps["step 2"].info.run_id).values()
    assert (run.info.run_name, run.data.params["joined"]) == ("conv k=8, joined", "yes")


def test_the_run_of_the_pipeline_describes_the_search(stage: StageRun) -> None:
    top = stage.tracker.start_run("pipeline", None, {})
    watcher = SearchRuns(StageRun(stage.tracker, top, stage.run_id, "wider"))
    end = result(Candidate(1, BlockSpec(4), 7), [0.5])
    watcher.search_finished(History((step_of(1, [end], [end]),)))
    tags = run_of(stage.tracker, top).data.tags
    assert tags["spacewarps.architecture"] == "conv k=4"
    assert "| 1 | conv k=4 | 1 to 4 | 0.5000 |" in tags["mlflow.note.content"]
