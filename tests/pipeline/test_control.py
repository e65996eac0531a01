import json

import pytest

from tests.pipeline.conftest import SpacewarpsHere
from tests.pipeline.project import Project

CONTROL = {"max_layers": 2, "folds": 2, "decides": "loss", "control": True}


def test_a_search_with_a_control_tells_of_it_everywhere(on_prepared: Project, spacewarps_here: SpacewarpsHere) -> None:
    params = on_prepared.params()
    params["search"] |= CONTROL
    params["train"] |= {"start": "fresh"}
    on_prepared.write_params(params)
    status, said, errors = spacewarps_here(on_prepared, "search")
    assert status == 0, said + errors
    told = said + errors
    assert "step 2, control: validation accuracy " in told
    assert "than without it after as many epochs" in told
    assert "3 candidates evaluated, 0 found in the journal" in told
    report = json.loads((on_prepared.folder / "reports/search.json").read_text())
    assert [each["layer"] for each in report["candidates"]] == [1, 2]
    assert [sorted(each.get("control", {})) for each in report["decisions"]] == [
        [],
        ["epochs", "val_accuracy", "val_loss", "value"],
    ]
    assert report["decisions"][1]["control"]["epochs"] == params["search"]["epochs_per_eval"]
    runs = {run.info.run_name: run for run in on_prepared.runs()}
    assert runs["control"].data.tags["mlflow.parentRunId"] == runs["step 2"].info.run_id
    assert spacewarps_here(on_prepared, "search")[0] == 0
    assert json.loads((on_prepared.folder / "reports/search.json").read_text()) == report


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"folds": 1, "decides": "accuracy"}, "but decides is accuracy on one fold; set control to false, decides to"),
        ({"warm_start": {"mode": "none", "scale": 1.0, "jitter": 0.05}}, "but warm_start.mode is none, with which"),
    ],
)
def test_a_control_that_measures_nothing_is_refused_in_one_line(
    on_prepared: Project, spacewarps_here: SpacewarpsHere, changes: dict[str, object], told: str
) -> None:
    params = on_prepared.params()
    params["search"] |= CONTROL | changes
    params["train"] |= {"start": "fresh"}
    on_prepared.write_params(params)
    status, said, errors = spacewarps_here(on_prepared, "search")
    assert (status, said) == (2, "")
    assert len(errors.splitlines()) == 1
    assert "params.yaml" in errors
    assert told in errors
    assert not (on_prepared.folder / "models").exists()
