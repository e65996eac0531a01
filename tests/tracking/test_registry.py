from pathlib import Path

from spacewarps.tracking.artifacts import MODEL_TAG
from spacewarps.tracking.registry import Registry
from tests.tracking.runs import experiment_of


def test_a_model_that_has_not_wholly_arrived_is_not_there(tracked: Path) -> None:
    client, experiment_id = experiment_of(tracked)
    registry = Registry(client, experiment_id, "space-warps")
    model = client.create_logged_model(experiment_id, "model", tags={MODEL_TAG: "1.dir"})
    assert registry.logged_model("1.dir") is None
    client.finalize_logged_model(model.model_id, "READY")
    found = registry.logged_model("1.dir")
    assert found is not None
    assert found.model_id == model.model_id
    assert registry.logged_model("2.dir") is None
